"""Which rank failed, how, and what is said about it."""

import json
import os
import signal

import jobc.executor
import pytest
from jobc.compiler.plan import Command, Ref
from jobc.executor.torchelastic import earliest_failure, first_failure, read_report

FAIL = """
import os, sys, time
print("rank", os.environ["RANK"], "starts")
if os.environ["RANK"] == sys.argv[1]:
    print("the reason", file=sys.stderr)
    exec(sys.argv[2])
time.sleep(600)
"""


@pytest.mark.parametrize(
    ("act", "code", "number"),
    [
        ("sys.exit(7)", 7, None),
        ("raise ValueError", 1, None),
        ("os.kill(os.getpid(), 9)", 137, 9),
        ("os.kill(os.getpid(), 11)", 139, 11),
    ],
)
@pytest.mark.parametrize("output", ["capture", "inherit"])
def test_exit_code_is_that_of_the_process(house, act, code, number, output):
    """Exit n is n, a signal is 128 and its number, as a shell has it."""
    plan = house.plan(house.python(f"import os, sys\n{act}", output=output))
    outcome, _, err = house.run(plan)
    record = jobc.executor.load(outcome.run_dir)
    assert (outcome.exit_code, record.exit_code, record.state) == (code, code, "failed")
    assert (outcome.failure.rank, outcome.failure.signal) == (0, number)
    assert (record.failed_rank, record.failed_signal) == (0, number)
    assert b"jobc: rank 0 failed: " in err


def test_first_failure_ends_the_others(house):
    """Of several commands the first that fails decides, and the others are asked to end."""
    patient = (
        "import signal, sys, time\nsignal.signal(signal.SIGTERM, lambda *_: (print('asked', flush=True), sys.exit(5)))\n"
        "open('ready', 'w')\ntime.sleep(600)"
    )
    hasty = "import os, sys, time\nwhile not os.path.exists('ready'): time.sleep(0.01)\nsys.exit(3)"
    outcome, out, _ = house.run(house.plan(house.python(patient), house.python(hasty, rank=1)))
    assert (outcome.exit_code, outcome.failure.rank) == (3, 1)
    assert out == b"[0] asked\n"


def test_one_that_does_not_end_when_asked_is_killed(house):
    """After the grace period nobody is asked any more."""
    stubborn = "import signal, time\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\nopen('ready', 'w')\ntime.sleep(600)"
    hasty = "import os, sys, time\nwhile not os.path.exists('ready'): time.sleep(0.01)\nsys.exit(3)"
    outcome, _, _ = house.run(house.plan(house.python(stubborn), house.python(hasty, rank=1)), grace=0.3)
    assert (outcome.exit_code, outcome.failure.rank) == (3, 1)
    assert house.survivors() == []


def test_summary_does_not_repeat_what_was_just_shown(house):
    """The failing rank's last lines are there once."""
    plan = house.plan(house.python("raise ValueError('the reason')"))
    outcome, _, err = house.run(plan)
    assert err.count(b"ValueError: the reason") == 1
    assert outcome.failure.lines[-1] == "ValueError: the reason"


def test_summary_repeats_what_others_have_buried(house):
    """Last lines that scrolled away are shown again, with the place of the logs."""
    loud = (
        "import signal, sys, time\n"
        "def end(*_):\n    time.sleep(1)  # the other's words are on the screen by then\n    for i in range(100): print('noise', i, file=sys.stderr)\n    sys.exit(0)\n"
        "signal.signal(signal.SIGTERM, end)\nopen('ready', 'w')\ntime.sleep(600)"
    )
    fails = "import os, time\nwhile not os.path.exists('ready'): time.sleep(0.01)\nraise ValueError('the reason')"
    outcome, _, err = house.run(house.plan(house.python(loud), house.python(fails, rank=1)))
    end = b"\n  | ValueError: the reason\n  jobc logs " + outcome.run_id.encode() + b" --rank 1   shows more\n"
    assert b"jobc: rank 1 failed: exit code 1\n  | Traceback" in err
    assert err.endswith(end)


def test_failure_falls_back_to_stdout(house):
    """A rank that wrote nothing to stderr is quoted from stdout."""
    outcome, _, _ = house.run(house.plan(house.python("print('only this')\nraise SystemExit(4)")))
    assert outcome.failure.lines == ("only this",)


@pytest.mark.parametrize(("act", "code"), [("sys.exit(7)", 7), ("os.kill(os.getpid(), 9)", 137)])
def test_torchrun_failure_is_that_of_the_worker(house, act, code):
    """torchrun exits 1 for everything; jobc says which rank failed and how."""
    outcome, out, err = house.run(house.plan(house.torchrun(FAIL, "1", act)))
    assert (outcome.exit_code, outcome.failure.rank) == (code, 1)
    assert outcome.failure.lines == ("the reason",)
    assert sorted(out.splitlines()) == [b"[0] rank 0 starts", b"[1] rank 1 starts"]
    assert err.startswith(b"[1] the reason\njobc: rank 1 failed: ")
    assert house.survivors() == []


def test_torchrun_success(house):
    """Two ranks that end well are a success, and arguments reach them unchanged."""
    text = "import json, os, sys; print(json.dumps([os.environ['RANK'], sys.argv[1:]]))"
    hostile = ["--n", "a b", "'\"", "$(x)", "a\nb", ""]
    outcome, out, err = house.run(house.plan(house.torchrun(text, *hostile)))
    assert (outcome.exit_code, err) == (0, b"")
    assert sorted(json.loads(line.partition(b" ")[2]) for line in out.splitlines()) == [["0", hostile], ["1", hostile]]


def test_torchrun_names_the_first_of_two_failures(house):
    """A rank that fails because its peer did is not blamed, though torchrun itself cannot tell them apart."""
    text = (
        "import os, sys, time\n"
        "if os.environ['RANK'] == '1': open('pid', 'w').write(str(os.getpid())); time.sleep(1); os._exit(7)\n"
        "while not (os.path.exists('pid') and (pid := open('pid').read())): time.sleep(0.001)\n"
        "while open(f'/proc/{pid}/stat').read().split()[2] != 'Z': time.sleep(0.001)\n"
        "sys.exit(1)"
    )
    outcome, _, _ = house.run(house.plan(house.torchrun(text)))
    assert (outcome.exit_code, outcome.failure.rank) == (7, 1)


def test_torchrun_last_attempt_counts(house):
    """After a restart the failure is that of the last attempt, and both attempts are shown."""
    text = (
        "import os, sys, time\nattempt = os.environ['TORCHELASTIC_RESTART_COUNT']\n"
        "print('attempt', attempt, flush=True)\n"
        "if os.environ['RANK'] == attempt: time.sleep(0.3); sys.exit(10 + int(attempt))\ntime.sleep(600)"
    )
    outcome, out, err = house.run(house.plan(house.torchrun(text, options=("--max-restarts=1",))))
    assert (outcome.exit_code, outcome.failure.rank) == (11, 1)
    first, second = err.split(b"\n")[:2]
    assert first == b"jobc: rank 0 failed: exit code 10; all processes start again (restart 1)"
    assert second == b"jobc: rank 1 failed: exit code 11"
    assert sorted(out.splitlines()) == [b"[%d] attempt %d" % (rank, attempt) for rank in (0, 1) for attempt in (0, 1)]


def test_torchrun_that_fails_itself_is_quoted(house):
    """A launcher that ends before any rank failed shows its own last words and its code."""
    outcome, _, err = house.run(house.plan(house.torchrun("pass", options=("--no-such-option",))))
    assert (outcome.exit_code, outcome.failure.rank) == (2, None)
    assert b"jobc: the launcher failed: exit code 2\n" in err
    assert b"  | " in err
    assert b"no-such-option" in err


def test_torchrun_that_is_killed_leaves_no_workers(house):
    """When the agent is killed its workers, in sessions of their own, are ended."""
    text = "import os, time; print('ready', os.getppid(), flush=True); time.sleep(600)"
    run = house.drive(house.plan(house.torchrun(text)))
    house.wait_for(lambda: run.out.read_bytes().count(b"ready") == 2)
    os.kill(int(run.out.read_bytes().split()[2]), signal.SIGKILL)
    code, _, err = run.end()
    assert code == 137
    assert b"jobc: the launcher failed: signal 9 (SIGKILL)\n" in err
    assert house.survivors() == []


def report(*failed, time="2026-01-01_00:00:00"):
    entries = [
        f"[{index}]:\n  time      : {time}\n  host      : h\n  rank      : {rank} (local_rank: {rank})\n"
        f"  exitcode  : {code} (pid: {pid}) \n  error_file: <N/A>\n  traceback : {message}\n"
        for index, (rank, code, pid, message) in enumerate(failed)
    ]
    rule = "-" * 20 + "\n"
    return f"{'=' * 20}\ntrain.py FAILED\n{rule}Failures:\n{''.join(entries[1:])}{rule}Root Cause (first observed failure):\n{entries[0]}{'=' * 20}\n"


def test_earliest_report_counts_of_several_machines(tmp_path):
    """Whatever the number of its machine; one that has none is passed over."""
    logs = [tmp_path / f"node_{number}.stderr.log" for number in range(4)]
    logs[0].write_text("the agent was killed\n")
    logs[1].write_text(report((2, 9, 20, "x"), time="2026-01-01_00:00:09"))
    logs[2].write_text(report((4, 7, 40, "x"), (5, 8, 50, "y"), time="2026-01-01_00:00:08"))
    failure = earliest_failure(logs)
    assert (failure.rank, failure.code) == (4, 7)
    assert earliest_failure(logs[:1]) is None


def test_report_is_read_from_its_end(tmp_path):
    """The last report counts, and text of a worker that imitates one does not."""
    imitation = "boom\n  [9]:\n    rank      : 9 (local_rank: 9)\n    exitcode  : 99 (pid: 9)"
    log = tmp_path / "agent.log"
    log.write_text(report((5, 55, 50, "old")) + report((0, 1, 100, imitation), (1, 7, 101, "x")))
    found = read_report(log)
    assert [(item.local_rank, item.exitcode) for item in found] == [(0, 1), (1, 7)]
    assert first_failure(found, [], (4, 5)).rank == 4
    assert first_failure(found, [101, 100], (4, 5)).rank == 5
    assert first_failure(found, [101, 100], (4, 5)).code == 7
    assert read_report(tmp_path / "none") == ()


def test_command_that_is_not_python(house):
    """Any program can be a job."""
    command = Command(argv=("sh", "-c", "echo $0; exit 9", (Ref("run_id"),)), ranks=(0,), output="capture")
    outcome, out, _ = house.run(house.plan(command))
    assert (outcome.exit_code, out) == (9, f"[0] {outcome.run_id}\n".encode())
