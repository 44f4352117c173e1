"""`jobc run` end to end: real processes, real torchrun, exit codes that mean something."""

import json
import os
import pty
import re
import signal
import subprocess
import sys
import time

import jobc
import pytest

TWO = "script: train.py\nhardware: {kind: cpu, per_node: 2}\n"
LAUNCHERS = ["launcher=python", "launcher=torchrun"]
RANK = "import os, sys\nrank = int(os.environ['RANK'])\n"


def write(folder, script, document=TWO):
    (folder / "job.yaml").write_text(document)
    (folder / "train.py").write_text(script)


def record(tmp_path):
    (run,) = (tmp_path / "state" / "jobc" / "runs").iterdir()
    return json.loads((run / "record.json").read_text())


@pytest.mark.parametrize("launcher", LAUNCHERS)
def test_every_rank_runs_and_is_prefixed(jobc_command, folder, launcher):
    """Two processes, each line with its rank."""
    write(folder, RANK + "print('hello from', rank)\n")
    done = jobc_command("run", "job.yaml", launcher)
    assert done.returncode == 0
    assert sorted(done.stdout.splitlines()) == ["[0] hello from 0", "[1] hello from 1"]


@pytest.mark.parametrize("launcher", LAUNCHERS)
def test_exit_code_is_that_of_the_process_that_failed(jobc_command, folder, tmp_path, launcher):
    """Exit 7 on one rank is exit 7 of the job, whatever the launcher makes of it."""
    write(folder, RANK + "print('rank', rank, 'was here', file=sys.stderr)\nif rank == 1: sys.exit(7)\n")
    done = jobc_command("run", "job.yaml", launcher)
    assert done.returncode == 7
    assert "rank 1" in done.stderr
    found = record(tmp_path)
    assert (found["state"], found["exit_code"], found["failed_rank"]) == ("failed", 7, 1)


@pytest.mark.parametrize("launcher", LAUNCHERS)
def test_exception_on_one_rank_shows_its_traceback(jobc_command, folder, launcher):
    """What a person needs first is the traceback of the rank that raised."""
    write(folder, RANK + "if rank == 1: raise ValueError('no such digit')\n")
    done = jobc_command("run", "job.yaml", launcher)
    assert done.returncode == 1
    assert "ValueError: no such digit" in done.stderr


@pytest.mark.parametrize("launcher", LAUNCHERS)
def test_signal_is_128_and_its_number(jobc_command, folder, launcher):
    """A process that is killed says by what."""
    write(
        folder,
        RANK + "import signal\nif rank == 0: os.kill(os.getpid(), signal.SIGKILL)\nimport time; time.sleep(30)\n",
    )
    assert jobc_command("run", "job.yaml", launcher).returncode == 137


def test_inherited_torchrun_settings_do_not_change_the_plan(jobc_command, folder):
    """torchrun reads PET_* from the environment; the plan is the whole truth, so they are taken away."""
    write(folder, RANK + "print(rank, os.environ.get('PET_MAX_RESTARTS'), os.environ['TORCHELASTIC_MAX_RESTARTS'])\n")
    done = jobc_command("run", "job.yaml", env={"PET_MAX_RESTARTS": "3", "PET_TEE": "3"})
    assert sorted(done.stdout.splitlines()) == ["[0] 0 None 0", "[1] 1 None 0"]


def test_one_process_keeps_its_exit_code(jobc_command, folder):
    """No agent, no translation."""
    write(folder, "import sys; sys.exit(9)\n", "script: train.py\n")
    assert jobc_command("run", "job.yaml").returncode == 9


@pytest.mark.parametrize("words", [["hardware.per_node=1"], *([launcher] for launcher in LAUNCHERS)])
def test_arguments_arrive_byte_for_byte(jobc_command, folder, words):
    """Spaces, quotes, newlines, dollars and dashes go through every launcher unchanged."""
    hostile = ["a b", "it's", '"', "a\nb", "$HOME", "$$", "$(touch pwned)", "--", "--n", "-", "*", "\\", "é", "", "`x`"]
    write(folder, "import json, os, sys\nprint(json.dumps([sys.argv[1:], os.environ['V']]))\n")
    (folder / "job.yaml").write_text(json.dumps({**HARD, "args": hostile, "env": {"V": "$(touch pwned) 'q'\n$$"}}))
    done = jobc_command("run", "job.yaml", *words)
    assert done.returncode == 0, done.stderr
    lines = [re.sub(r"^\[\d\] ", "", line) for line in done.stdout.splitlines()]
    assert lines
    for line in lines:
        assert json.loads(line) == [hostile, "$(touch pwned) 'q'\n$$"]
    assert not (folder / "pwned").exists()


HARD = {"script": "train.py", "hardware": {"kind": "cpu", "per_node": 2}}


def test_pinned_port_in_use_is_refused_before_anything_starts(jobc_command, folder):
    """The finding names the port; no process has run."""
    import socket

    write(folder, "open('ran', 'w')\n")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = jobc_command("run", "job.yaml", f"nodes.rendezvous.port={port}")
    assert done.returncode == 2
    assert f"error[J402]: port {port}" in done.stderr
    assert not (folder / "ran").exists()


def test_missing_secret_is_refused_at_the_start(jobc_command, folder):
    """At plan time a secret is a name; at run time it must be there."""
    write(folder, "print('ran')\n", "script: train.py\nsecrets: [JOBC_TEST_KEY]\n")
    assert jobc_command("plan", "job.yaml").returncode == 0
    done = jobc_command("run", "job.yaml")
    assert (done.returncode, done.stdout) == (2, "")
    assert "error[J401]" in done.stderr
    assert jobc_command("run", "job.yaml", env={"JOBC_TEST_KEY": "value"}).returncode == 0


def test_secret_is_in_no_record_and_no_output(jobc_command, folder, tmp_path):
    """The value goes from the environment to the process and nowhere else."""
    write(folder, "import os; assert os.environ['JOBC_TEST_KEY']\n", TWO + "secrets: [JOBC_TEST_KEY]\n")
    done = jobc_command("run", "job.yaml", "launcher=python", env={"JOBC_TEST_KEY": "hunter2hunter2"})
    assert done.returncode == 0, done.stderr
    assert "hunter2" not in done.stdout + done.stderr
    for path in (tmp_path / "state").rglob("*"):
        assert not path.is_file() or b"hunter2" not in path.read_bytes(), path


def test_two_jobs_at_once_do_not_meet(folder):
    """Free ports and folders of their own."""
    write(folder, "from jobc import Accelerator\na = Accelerator()\na.wait_for_everyone()\na.print(a.num_processes)\n")
    started = [
        subprocess.Popen(
            [sys.executable, "-m", "jobc", "run", "job.yaml", launcher],
            cwd=folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for launcher in LAUNCHERS
    ]
    for process in started:
        out, err = process.communicate(timeout=120)
        assert (process.returncode, out) == (0, "[0] 2\n"), err


def test_run_in_a_process_of_several_is_refused(jobc_command, folder):
    """Each of them would start the whole job; nothing is started."""
    write(folder, "from jobc import Accelerator\nAccelerator()\n", "script: train.py\n")
    done = jobc_command("run", "job.yaml", env={"WORLD_SIZE": "2", "RANK": "0", "LOCAL_RANK": "0"})
    assert done.returncode == 2
    assert "error[J411]" in done.stderr


@pytest.mark.parametrize("launcher", [*LAUNCHERS, "hardware.per_node=1"])
def test_ctrl_c_ends_everything_with_130(folder, launcher):
    """Ctrl-C in a real terminal: the processes are gone when the prompt is back."""
    write(folder, "import os, time\nopen(f'pid_{os.getpid()}', 'w')\ntime.sleep(60)\n")
    controller, terminal = pty.openpty()
    process = subprocess.Popen(
        ["setsid", "--ctty", "--wait", sys.executable, "-m", "jobc", "run", "job.yaml", launcher],
        cwd=folder,
        stdin=terminal,
        stdout=terminal,
        stderr=terminal,
    )
    os.close(terminal)
    wanted = 1 if "per_node" in launcher else 2
    deadline = time.monotonic() + 60
    while len(list(folder.glob("pid_*"))) < wanted and time.monotonic() < deadline:
        time.sleep(0.05)
    os.write(controller, b"\x03")
    assert process.wait(60) == 130
    os.close(controller)
    pids = [int(path.name.removeprefix("pid_")) for path in folder.glob("pid_*")]
    assert len(pids) == wanted
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, signal.SIG_DFL)


def test_python_face_runs_the_same_plan(folder, capfd):
    """`jobc.run` is what the command calls."""
    write(folder, "print('trained')\n", "script: train.py\n")
    outcome = jobc.run("job.yaml", ["name=digits"])
    assert outcome.exit_code == 0
    assert capfd.readouterr().out == "trained\n"
    assert outcome.run_id.startswith("digits-")


def test_python_face_raises_findings(folder):
    """Bad input is an exception that carries its findings."""
    (folder / "job.yaml").write_text("script: train.py\nnodes: 0\n")
    with pytest.raises(jobc.FindingsError) as caught:
        jobc.run("job.yaml")
    assert [finding.code for finding in caught.value.findings] == ["J106"]


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (6, ("hardware.per_node=1",)),
        (12, ("hardware.per_node=2",)),  # torchrun alone may take seconds until its processes start
        (6, ("hardware.per_node=2", "launcher=python")),
    ],
)
def test_time_limit_ends_the_run(jobc_command, folder, seconds, words):
    """All processes, with the exit code of timeout(1); the record says failed."""
    write(folder, "import time\nprint('begun', flush=True)\ntime.sleep(600)\n")
    done = jobc_command("run", "job.yaml", "hardware.kind=cpu", f"limits.minutes={seconds / 60}", *words)
    assert done.returncode == 124
    assert "begun" in done.stdout
    assert done.stderr.endswith(f"jobc: ended after its time limit of {seconds} s\n")
    assert "failed with exit code 124" in jobc_command("status", "last").stdout


def test_setup_lines_prepare_the_shell(jobc_command, folder):
    """What they export is there, and one that fails keeps the processes from starting."""
    write(folder, "import os\nprint('got', os.environ['FOO'])\n")
    (folder / "activate").write_text("export FOO='a b'\n")
    one = ("run", "job.yaml", "hardware.per_node=1", "setup=['. ./activate']")
    assert jobc_command(*one).stdout == "got a b\n"
    done = jobc_command("run", "job.yaml", "setup=['. ./activate']", "hardware.kind=cpu", "hardware.per_node=2")
    assert sorted(done.stdout.splitlines()) == ["[0] got a b", "[1] got a b"]
    done = jobc_command("run", "job.yaml", "hardware.per_node=1", "setup=['exit 9']")
    assert (done.returncode, done.stdout) == (9, "")


def test_kind_without_an_implementation_is_refused_once(jobc_command, folder):
    """What can only be planned does not run, with one finding that says so, whatever starts it."""
    (folder / "job.yaml").write_text("script: train.py\nhardware: {kind: cpu, per_node: 2}\nparadigm: deepspeed\n")
    assert jobc_command("plan", "job.yaml", "-o", "plan.json").returncode == 0
    for words in (("job.yaml",), ("plan.json",), ("job.yaml", "--detach"), ("job.yaml", "-m", "training.seed=1,2")):
        done = jobc_command("run", *words)
        assert done.returncode == 2
        assert done.stderr.count("[J") == 1
        assert "error[J409]: `paradigm: deepspeed` can be planned" in done.stderr
    with pytest.raises(jobc.FindingsError, match="J409"):
        jobc.run(folder / "job.yaml")


def test_process_of_a_kind_without_an_implementation_is_refused(jobc_command, folder):
    """A plan that is carried out by hand ends in the process, with the same finding."""
    (folder / "train.py").write_text("from jobc import Accelerator\nAccelerator()\n")
    (folder / "job.yaml").write_text("script: train.py\nhardware: gpu\nprecision: fp8\n")
    (folder / "run.sh").write_text(jobc_command("plan", "job.yaml", "--format", "sh").stdout)
    done = subprocess.run(["bash", "run.sh"], cwd=folder, capture_output=True, text=True)
    assert done.returncode != 0
    assert "J409" in done.stderr + done.stdout
