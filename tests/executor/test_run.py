"""A run from its first file to its record."""

import json
import os
import subprocess
import sys
import threading
from io import BytesIO, StringIO

import jobc.executor
import msgspec
import pytest
from jobc.compiler.plan import Command, LaunchPlan, Ref, RunCommand, WriteFile, canonical, encode
from jobc.executor.placeholders import Values

HOSTILE = [
    "",
    " ",
    "two words",
    "'",
    '"',
    "$(touch pwned)",
    "`id`",
    "$HOME",
    "$$",
    "a\nb",
    "\t",
    "*",
    "\\",
    "ü\u2028",
    "--",
    "%s",
]


def test_run_keeps_plan_and_record(house):
    """A run leaves its plan, byte for byte, and a record of how it went, for its owner only."""
    plan = house.plan(house.python("print('hello')"), name="My job/1")
    outcome, out, err = house.run(plan)
    record = jobc.executor.load(outcome.run_dir)
    assert (outcome.exit_code, outcome.failure, out, err) == (0, None, b"[0] hello\n", b"")
    assert (outcome.run_dir / "plan.json").read_bytes() == encode(plan)
    assert outcome.run_id == outcome.run_dir.name == record.run_id
    assert outcome.run_id.startswith("My-job-1-")
    assert (record.state, record.exit_code, record.digest, record.pid) == ("succeeded", 0, plan.digest, os.getpid())
    assert record.started < record.ended
    assert outcome.run_dir.stat().st_mode & 0o777 == 0o700
    assert not jobc.executor.alive(record)


def test_run_writes_spec_with_its_mode(house):
    """The resolved document lies where JOBC_SPEC says, canonical and private."""
    plan = house.plan(house.python("import os; print(open(os.environ['JOBC_SPEC']).read())"))
    outcome, out, _ = house.run(plan)
    spec = outcome.run_dir / "spec.json"
    assert spec.read_bytes() == canonical(plan.document())
    assert spec.stat().st_mode & 0o777 == 0o600
    assert out == b"[0] " + spec.read_bytes() + b"\n"
    assert not [path for path in outcome.run_dir.iterdir() if path.name.startswith(".")]


def test_run_passes_hostile_text_unchanged(house):
    """Arguments and variables arrive byte for byte; no shell ever sees them."""
    text = "import os, sys, json; print(json.dumps([sys.argv[1:], [os.environ[f'V{i}'] for i in range(len(sys.argv) - 1)]]))"
    env = {f"V{index}": value for index, value in enumerate(HOSTILE)}
    _, out, _ = house.run(house.plan(house.python(text, *HOSTILE, env=env)))
    assert json.loads(out.removeprefix(b"[0] ")) == [HOSTILE, HOSTILE]
    assert not list(house.folder.rglob("pwned"))


def test_run_fills_placeholders_only_where_they_are(house):
    """A user's text that looks like a placeholder stays text."""
    text = "import sys; print(*sys.argv[1:], sep='|')"
    names = ("run_id", "run_dir", "project_dir", "python", "pid")
    command = house.python(text, *((Ref(name),) for name in names), "<run_dir>", "{run_dir}", ("x=", Ref("port")))
    outcome, out, _ = house.run(house.plan(command))
    *values, literal, braces, port = out.decode().strip().removeprefix("[0] ").split("|")
    assert values == [outcome.run_id, str(outcome.run_dir), str(house.project), sys.executable, str(os.getpid())]
    assert (literal, braces) == ("<run_dir>", "{run_dir}")
    assert 0 < int(port.removeprefix("x=")) < 65536


def test_values_give_one_port_to_a_run(house):
    """The port is chosen once, so that every process of a run hears of the same."""
    plan = house.plan(house.python("pass"))
    values = Values(plan, house.runs / "x", house.project, "python", 1)
    assert values.value(Ref("port")) == values.value(Ref("port"))


def test_run_starts_in_the_project_or_where_the_plan_says(house):
    """A command starts in the project's folder, or in a folder relative to it."""
    (house.project / "sub").mkdir()
    plain = house.python("import os; print(os.getcwd())")
    below = msgspec.structs.replace(plain, cwd="sub")
    assert house.run(house.plan(plain))[1] == f"[0] {house.project}\n".encode()
    assert house.run(house.plan(below))[1] == f"[0] {house.project}/sub\n".encode()


def test_record_holds_no_values_of_the_environment(house):
    """Neither a secret nor any other variable of the caller is written into the run's folder."""
    plan = house.plan(house.python("pass"), secrets=("TOKEN",))
    outcome, _, _ = house.run(plan, env={"TOKEN": "s3cr3t-value", "OTHER": "0ther-value"})
    kept = b"".join(path.read_bytes() for path in outcome.run_dir.rglob("*") if path.is_file())
    assert b"s3cr3t-value" not in kept
    assert b"0ther-value" not in kept


def test_run_command_inherits_the_environment(house):
    """The caller's variables arrive; those of the plan win."""
    text = "import os; print(os.environ['MINE'], os.environ['BOTH'])"
    _, out, _ = house.run(
        house.plan(house.python(text, env={"BOTH": "plan"})), env={"MINE": "caller", "BOTH": "caller"}
    )
    assert out == b"[0] caller plan\n"


def test_run_steps_stop_at_the_first_that_fails(house):
    """Steps run in order; after one that fails no other is begun."""
    fails = RunCommand(command=Command(argv=((Ref("python"),), "-c", "raise SystemExit(3)"), output="capture"))
    plan = house.plan(house.python("print('never')"), before=(fails,))
    outcome, out, _ = house.run(plan)
    assert (outcome.exit_code, out) == (3, b"")


def test_run_in_a_thread_and_with_text_streams(house):
    """A notebook's streams, and a thread that may not touch signals, are enough."""
    out, err, found = StringIO(), StringIO(), []
    plan = house.plan(house.python("print('é')"))
    thread = threading.Thread(target=lambda: found.append(jobc.executor.execute(plan, house.settings(out, err))))
    thread.start()
    thread.join()
    assert found[0].exit_code == 0
    assert out.getvalue() == "[0] é\n"


def test_two_runs_at_once_do_not_disturb_each_other(house):
    """The same plan runs twice at once, each in its own folder with its own processes."""
    text = "import os, time; print(os.environ['JOBC_SPEC'], flush=True); time.sleep(0.5); print('end')"
    plan = house.plan(house.python(text))
    runs = [house.drive(plan) for _ in range(2)]
    ends = [run.end() for run in runs]
    shown = [out.split()[1] for _, out, _ in ends]
    assert [code for code, _, _ in ends] == [0, 0]
    assert all(out.endswith(b"[0] end\n") for _, out, _ in ends)
    assert shown[0] != shown[1]
    assert len(list(house.runs.iterdir())) == 2


def test_import_is_light():
    """Importing the executor loads neither torch nor ctypes nor asyncio."""
    code = "import sys, jobc.executor; print([m for m in ('torch', 'ctypes', 'asyncio', 'jinja2', 'yaml') if m in sys.modules])"
    assert subprocess.check_output([sys.executable, "-c", code]) == b"[]\n"


def test_runs_dir_follows_the_environment(tmp_path):
    """Run records lie under XDG_STATE_HOME, by default under ~/.local/state."""
    assert str(jobc.executor.runs_dir({"XDG_STATE_HOME": "/s"})) == "/s/jobc/runs"
    assert str(jobc.executor.runs_dir({"HOME": "/h"})) == "/h/.local/state/jobc/runs"
    assert str(jobc.executor.runs_dir({"HOME": "/h", "XDG_STATE_HOME": "relative"})) == "/h/.local/state/jobc/runs"


@pytest.mark.parametrize("path", ["notes/a.txt", (Ref("run_dir"), "/notes/a.txt")])
def test_run_writes_files_below_its_folder(house, path):
    """A step's file, with the mode it asks for, lies in the run's folder, also when its path is relative."""
    step = WriteFile(path=path, content=("#!/bin/sh\necho ", Ref("run_id"), "\n"), mode=0o755)
    outcome, _, _ = house.run(house.plan(house.python("pass"), before=(step,)))
    written = outcome.run_dir / "notes" / "a.txt"
    assert written.read_text() == f"#!/bin/sh\necho {outcome.run_id}\n"
    assert written.stat().st_mode & 0o777 == 0o755


def test_run_starts_a_program_that_an_earlier_step_writes(house):
    """A program that a step of the same plan writes need not exist before."""
    step = WriteFile(path="go.sh", content="#!/bin/sh\necho went\n", mode=0o755)
    command = Command(argv=((Ref("run_dir"), "/go.sh"),), ranks=(0,), output="capture")
    assert house.run(house.plan(command, before=(step,)))[1] == b"[0] went\n"


def test_plan_survives_its_saved_form(house):
    """What is executed from a file is what was planned."""
    plan = house.plan(house.python("print('x')"))
    again = msgspec.json.decode(encode(plan), type=LaunchPlan)
    assert jobc.executor.execute(again, house.settings(BytesIO(), BytesIO())).exit_code == 0


def test_run_in_a_folder_that_is_no_utf8(house):
    """A path may hold any bytes; the run works in it, and the record shows them escaped."""
    house.project = house.folder / os.fsdecode(b"caf\xe9")
    house.project.mkdir()
    plan = house.plan(Command(argv=("sh", "-c", "pwd; echo $JOBC_SPEC"), ranks=(0,), output="capture"))
    outcome, out, _ = house.run(plan, runs=house.project / "runs")
    assert out.startswith(b"[0] " + os.fsencode(house.project) + b"\n")
    assert jobc.executor.load(outcome.run_dir).project_dir.endswith("caf\\udce9")
