"""The target `ssh` on two real sshd: training, exit codes, secrets, lost connections, machines that do not answer."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

GATHER = """
import sys, torch
from jobc import Accelerator
accelerator = Accelerator()
ranks = accelerator.gather(torch.tensor([accelerator.process_index])).tolist()
print("gathered", ranks, flush=True)
sys.exit(int(sys.argv[1]) if len(sys.argv) > 1 and accelerator.is_last_process else 0)
"""
SHOW = """
import json, os, sys
from pathlib import Path
if os.environ.get("RANK", "0") == "0":
    Path("seen.json").write_text(json.dumps([sys.argv[1:], {name: os.environ.get(name) for name in ("A", "TOKEN")}]))
"""
SLEEP = """
import os, time
from pathlib import Path
Path(f"pid.{os.environ.get('RANK', '0')}").write_text(str(os.getpid()))
print("ready", flush=True)
time.sleep(600)
"""


def wait_for(condition, seconds=60):
    """Until something is so; what is never so fails the test."""
    for _ in range(seconds * 20):
        if condition():
            return
        time.sleep(0.05)
    raise AssertionError("it never came to pass")


def alive(pid):
    return Path(f"/proc/{pid}").exists()


@pytest.mark.parametrize("backend", ["c10d", "static"])
def test_processes_of_two_machines_train_together(jobc_command, ssh_job, backend):
    """The job's files are copied, and four ranks on two machines gather; each line carries its rank."""
    ssh_job(GATHER, per_node=2)
    done = jobc_command("run", "job.yaml", f"nodes.rendezvous.backend={backend}")
    assert done.returncode == 0, done.stderr
    assert sorted(done.stdout.splitlines()) == [f"[{rank}] gathered [0, 1, 2, 3]" for rank in range(4)]
    assert jobc_command("logs", "last", "--rank", "3").stdout == "[3] gathered [0, 1, 2, 3]\n"


def test_output_of_two_machines_is_what_was_asked_for(jobc_command, folder, ssh_job):
    """One rank of four is shown, with the prefix of the job; the logs have all, in the job's folder."""
    ssh_job(GATHER, "logging: {ranks: [3], prefix: '{rank}: ', folder: kept}\n", per_node=2)
    done = jobc_command("run", "job.yaml")
    assert (done.returncode, done.stdout) == (0, "3: gathered [0, 1, 2, 3]\n"), done.stderr
    shown = jobc_command("logs", "last").stdout
    assert sorted(shown.splitlines()) == [f"{rank}: gathered [0, 1, 2, 3]" for rank in range(4)]
    assert len(list(folder.glob("kept/*/node_*.stdout.log"))) == 2
    sent = json.loads(jobc_command("plan", "job.yaml", "--format", "json").stdout)["inputs"]
    assert sorted(sent) == ["job.yaml", "train.py"]


def test_exit_code_names_the_rank_and_its_machine(jobc_command, ssh_job):
    """torchrun exits 1 for everything; its report has the code and the rank."""
    ssh_job(GATHER, "args: ['7']\n")
    done = jobc_command("run", "job.yaml")
    assert done.returncode == 7
    assert re.search(r"^jobc: rank 1 on n[12] failed: exit code 7$", done.stderr, re.MULTILINE)


def test_words_and_secrets_arrive_byte_for_byte_and_stay_unseen(jobc_command, folder, ssh_job):
    """Arguments, variables and secrets of any form; a secret is in no file here and in no command line there."""
    hostile = ["$HOME", "`id`", "a'b\"c", "-n", "--", "*", "new\nline", "é\U0001f600", "", "$$", "\\", "x" * 5000]
    secret = 'it\'s "$HOME" `id` $(id)\n!'
    there = ssh_job(
        SHOW, f"args: {json.dumps(hostile, ensure_ascii=False)}\nenv: {{A: {json.dumps(secret)}}}\nsecrets: [TOKEN]\n"
    )
    done = jobc_command("run", "job.yaml", "target.hosts=[n1]", env={"TOKEN": secret})
    assert done.returncode == 0, done.stderr
    assert json.loads((there / "train/files/seen.json").read_text()) == [hostile, {"A": secret, "TOKEN": secret}]
    (run,) = (folder.parent / "state" / "jobc" / "runs").iterdir()
    stored = "".join(path.read_text() for path in run.rglob("*") if path.is_file())
    assert json.dumps(secret)[1:-1] in stored  # `env` is no secret
    ssh_job(SHOW, "secrets: [TOKEN]\n")
    jobc_command("run", "job.yaml", "target.hosts=[n1]", env={"TOKEN": "hunter2-hunter2"})
    runs = (folder.parent / "state" / "jobc" / "runs").rglob("*")
    assert not any(b"hunter2" in path.read_bytes() for path in runs if path.is_file())


@pytest.mark.parametrize("how", ["stop", "kill the executor", "cut the connection"])
def test_no_process_is_left_on_any_machine(jobc_command, folder, ssh_job, how):
    """Whatever ends the run ends the processes there."""
    there = ssh_job(SLEEP)
    done = jobc_command("run", "-d", "job.yaml")
    assert done.returncode == 0, done.stderr
    wait_for(lambda: len(list((there / "train/files").glob("pid.*"))) == 2)
    pids = [int(path.read_text()) for path in (there / "train/files").glob("pid.*")]
    record = json.loads(jobc_command("status", "last", "--format", "json").stdout)
    if how == "stop":
        assert jobc_command("stop", "last").returncode == 0
    elif how == "kill the executor":
        os.kill(record["pid"], signal.SIGKILL)
    else:
        children = subprocess.run(
            ["pgrep", "-P", str(record["pid"]), "-f", "exec bash -s"], capture_output=True, text=True, check=True
        )
        os.kill(int(children.stdout.split()[0]), signal.SIGKILL)
    wait_for(lambda: not any(alive(pid) for pid in pids))
    if how == "cut the connection":
        jobc_command("wait", "last")
        log = jobc_command("status", "last").stdout
        assert "failed with exit code" in log


@pytest.mark.parametrize(("host", "said"), [("nobody", "Connection refused"), ("stranger", "Permission denied")])
def test_machine_that_refuses_is_named(jobc_command, ssh_job, host, said):
    """Nothing is started anywhere."""
    ssh_job(SLEEP, hosts=f"[n1, {host}]")
    done = jobc_command("run", "job.yaml")
    assert done.returncode not in (0, 2)
    assert f"jobc: the machine {host} failed" in done.stderr
    assert said in done.stderr


def test_machine_that_never_answers_is_given_up(jobc_command, folder, ssh_job, ssh_hosts):
    """A listener that says nothing: ssh's own time-out ends the wait."""
    server = "import socket, time; s = socket.socket(); s.bind(('127.0.0.4', 0)); s.listen(); print(s.getsockname()[1], flush=True); time.sleep(600)"
    with subprocess.Popen([sys.executable, "-c", server], stdout=subprocess.PIPE, text=True) as mute:
        port = mute.stdout.readline().strip()
        config = folder / "config"
        config.write_text(ssh_hosts.read_text() + f"Host mute\n  HostName 127.0.0.4\n  Port {port}\n")
        ssh_job(SLEEP, hosts="[n1, mute]")
        done = jobc_command("run", "job.yaml", "target.config=config", "target.connect_timeout=1")
        mute.kill()
    assert done.returncode not in (0, 2)
    assert "jobc: the machine mute failed" in done.stderr


def test_only_the_listed_files_are_copied(jobc_command, folder, ssh_job):
    """The plan lists what is copied; patterns leave out the rest; names may be anything."""
    there = ssh_job("print('ran')\n")
    for name in ("data/a b.txt", "data/'q'.txt", "-x.txt", ".git/config", "big.pt", "sub/__pycache__/a.pyc"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)
    done = jobc_command("plan", "job.yaml", "--format", "json")
    assert done.returncode == 0, done.stderr
    plan = json.loads(done.stdout)
    listed = {"data/a b.txt", "data/'q'.txt", "-x.txt", "job.yaml", "train.py"}
    assert set(plan["inputs"]) == listed
    done = jobc_command("run", "job.yaml", "target.hosts=[n1]")
    assert (done.returncode, done.stdout) == (0, "[0] ran\n")
    files = there / "train/files"
    assert {path.relative_to(files).as_posix() for path in files.rglob("*") if path.is_file()} == listed


@pytest.mark.parametrize(("launcher", "per_node"), [("torchrun", 2), ("python", 2), ("torchrun", 1)])
def test_script_of_the_plan_does_the_same(jobc_command, folder, ssh_job, launcher, per_node):
    """The sh form copies, starts both machines, shows their lines and ends with the code of what failed."""
    ssh_job(GATHER, f"launcher: {launcher}\n", per_node=per_node)
    script = jobc_command("plan", "job.yaml", "--format", "sh").stdout
    done = subprocess.run(["bash", "-c", script], cwd=folder, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    ranks = range(2 * per_node)
    assert sorted(done.stdout.splitlines()) == [f"[{rank}] gathered {[*ranks]}" for rank in ranks]
    script = jobc_command("plan", "job.yaml", "--format", "sh", "args=['7']").stdout
    done = subprocess.run(["bash", "-c", script], cwd=folder, capture_output=True, text=True, timeout=120)
    assert done.returncode == (7 if launcher == "python" else 1), done.stderr


def test_words_arrive_byte_for_byte_through_the_script(jobc_command, folder, ssh_job):
    """What the script passes on is quoted for two shells."""
    hostile = ["$HOME", "`id`", "a'b\"c", "-n", "--", "*", "new\nline", "é\U0001f600", "", "$$", "\\", "x" * 5000]
    secret = 'it\'s "$HOME" `id` $(id)\n!'
    there = ssh_job(
        SHOW, f"args: {json.dumps(hostile, ensure_ascii=False)}\nenv: {{A: {json.dumps(secret)}}}\nsecrets: [TOKEN]\n"
    )
    script = jobc_command("plan", "job.yaml", "--format", "sh", "target.hosts=[n1]").stdout
    env = {**os.environ, "TOKEN": secret}
    done = subprocess.run(["bash", "-c", script], cwd=folder, env=env, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert json.loads((there / "train/files/seen.json").read_text()) == [hostile, {"A": secret, "TOKEN": secret}]


def test_script_that_is_ended_leaves_no_process(jobc_command, folder, ssh_job):
    """Its end closes the connections, however it ends."""
    there = ssh_job(SLEEP)
    script = jobc_command("plan", "job.yaml", "--format", "sh").stdout
    running = subprocess.Popen(["bash", "-c", script], cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    pids = [there / f"train/files/pid.{rank}" for rank in range(2)]
    wait_for(lambda: all(path.exists() and path.read_text() for path in pids))
    running.kill()
    wait_for(lambda: not any(alive(int(path.read_text())) for path in pids))
    running.wait(10)


def test_ignore_file_says_what_stays(jobc_command, folder, ssh_job):
    """As git reads its own; and what cannot be read is said with its line."""
    there = ssh_job("print('ran')\n", "", hosts="[n1]")
    (folder / "data" / "raw").mkdir(parents=True)
    for name in ("data/raw/huge.bin", "data/small.bin", "notes.tmp", "keep.tmp"):
        (folder / name).write_text("x")
    (folder / ".jobcignore").write_text("# mine\ndata/raw\n*.tmp\n!keep.tmp\n")
    assert jobc_command("run", "job.yaml").returncode == 0
    copied = {path.relative_to(there / "train/files").as_posix() for path in (there / "train/files").rglob("*")}
    assert copied >= {"data/small.bin", "keep.tmp", "train.py"}
    assert not copied & {"data/raw", "data/raw/huge.bin", "notes.tmp"}
    (folder / ".jobcignore").write_text("# mine\n!\n")
    done = jobc_command("plan", "job.yaml")
    assert done.returncode == 2
    assert "error[J106]: `!` leaves out nothing: it is no pattern\n  .jobcignore:2" in done.stderr
