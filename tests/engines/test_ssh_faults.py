"""The target `ssh` when things go wrong on a machine: processes killed, disks full, programs missing; and training there."""

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

DIGITS = Path(__file__).parents[2] / "examples" / "digits"
SLEEP = """
import os, time
from pathlib import Path
Path(f"pid.{os.environ.get('RANK', '0')}").write_text(f"{os.getpid()} {os.getppid()}")
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


def started(jobc_command, there, ranks):
    """Starts the job by itself and waits for its processes; the process ids of each and of its parent, by rank."""
    done = jobc_command("run", "-d", "job.yaml", "nodes.rendezvous.backend=static")
    assert done.returncode == 0, done.stderr
    files = [there / f"train/files/pid.{rank}" for rank in range(ranks)]
    wait_for(lambda: all(path.exists() and len(path.read_text().split()) == 2 for path in files))
    return [tuple(map(int, path.read_text().split())) for path in files]


@pytest.fixture
def server(ssh_hosts, folder):
    """Starts an sshd with further lines of configuration, as the machine n3; the ssh_config that knows it."""
    running = []

    def start(*lines):
        with socket.socket() as free:
            free.bind(("127.0.0.5", 0))
            port = free.getsockname()[1]
        keys, config = ssh_hosts.parent, folder.parent / "sshd"
        config.write_text(
            f"ListenAddress 127.0.0.5:{port}\nHostKey {keys}/host\nPidFile none\nAuthorizedKeysFile {keys}/authorized\n"
            "StrictModes no\nUsePAM no\n" + "".join(f"{line}\n" for line in lines)
        )
        running.append(subprocess.Popen(["/usr/sbin/sshd", "-D", "-f", config], stderr=subprocess.DEVNULL))
        known = folder.parent / "config"
        known.write_text(
            f"Host n3\n  HostName 127.0.0.5\n  Port {port}\n  IdentityFile {keys}/user\n{ssh_hosts.read_text()}"
        )
        with socket.socket() as probe:
            wait_for(lambda: probe.connect_ex(("127.0.0.5", port)) == 0)
        return known

    yield start
    for process in running:
        process.send_signal(signal.SIGTERM)
        process.wait(10)


def test_digits_are_learned_on_two_machines(jobc_command, folder, ssh_job, ssh_hosts):
    """The example as it is, on other machines than this: the accuracy that it has here."""
    there = ssh_job("")
    for name in ("train.py", "job.yaml"):
        shutil.copy(DIGITS / name, folder)
    words = [
        "target=ssh", "target.hosts=[n1,n2]", f"target.config={ssh_hosts}", f"target.folder={there}",
        "hardware.per_node=1", f"python={sys.executable}", "nodes.rendezvous.address=127.0.0.2",
        "+env.OMP_NUM_THREADS='1'",
    ]  # fmt: skip
    done = jobc_command("run", "job.yaml", *words)
    assert done.returncode == 0, done.stderr[-3000:]
    assert float(re.findall(r"test accuracy (\S+)", done.stdout)[-1]) >= 0.97
    assert (there / "digits/files/out").is_dir()


@pytest.mark.parametrize(("whom", "how"), [("process", r"signal 9 \(SIGKILL\)"), ("agent", "exit code 137")])
def test_killed_process_ends_the_other_machine_and_is_named(jobc_command, folder, ssh_job, whom, how):
    """A rank, or the agent that started it, is killed on the second machine: nothing is left on the first."""
    there = ssh_job(SLEEP)
    ids = started(jobc_command, there, 2)
    os.kill(ids[1][0 if whom == "process" else 1], signal.SIGKILL)
    assert jobc_command("wait", "last").returncode == 137
    wait_for(lambda: not any(Path(f"/proc/{pid}").exists() for pair in ids for pid in pair))
    (said,) = (folder.parent / "state/jobc/runs").glob("*/logs/run.log")
    text = said.read_text()
    assert re.search(f"^jobc: rank 1 on n2 failed: {how}$", text, re.MULTILINE), text


@pytest.fixture
def full(tmp_path):
    """A folder on a file system of 256 KiB."""
    place = tmp_path / "full"
    place.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", place], capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"no file system can be mounted here: {done.stderr.strip()}")
    yield place
    subprocess.run(["umount", "-l", place], check=True)


def test_full_disk_on_a_machine_is_said(jobc_command, folder, ssh_job, full):
    """Files that do not fit: nothing runs, and the code is rsync's for files that cannot be written."""
    ssh_job("open('ran', 'w')\n")
    (folder / "data.bin").write_bytes(os.urandom(1 << 20))
    done = jobc_command("run", "job.yaml", f"target.folder={full}", "target.hosts=[n1]")
    assert done.returncode == 11, done.stderr  # rsync's own words are lost now and then
    assert "jobc: the machine n1 failed: exit code 11\n" in done.stderr
    assert not list(full.rglob("ran"))


@pytest.mark.parametrize(
    ("missing", "said"), [("rsync", "rsync: "), ("mkdir", "mkdir: "), ("python3.99", "setsid: failed to execute ")]
)
def test_program_that_a_machine_lacks_is_named(jobc_command, folder, ssh_job, server, missing, said):
    """Everything but one program is there."""
    programs = folder.parent / "bin"
    programs.mkdir()
    for name in ("bash", "sh", "rsync", "mkdir", "setsid", "sleep", "grep"):
        if name != missing:
            (programs / name).symlink_to(shutil.which(name))
    config = server(f"SetEnv PATH={programs}")
    ssh_job(SLEEP, hosts="[n3]")
    done = jobc_command("run", "job.yaml", f"target.config={config}", "python=python3.99")
    assert done.returncode not in (0, 2)
    assert "n3 failed: exit code" in done.stderr
    assert re.search(f"{said}.*(not found|No such file)|{missing}: (command )?not found", done.stderr), done.stderr


def test_restart_on_another_machine_is_said(jobc_command, folder, ssh_job):
    """The rank, its machine and how it ended, once for each restart; the last failure is the job's."""
    script = """
import os, sys, time
attempt, rank = int(os.environ["TORCHELASTIC_RESTART_COUNT"]), os.environ["RANK"]
print("attempt", attempt, flush=True)
time.sleep(1)
if rank == "1":
    sys.exit(10 + attempt)
time.sleep(600)
"""
    ssh_job(script, per_node=2)
    done = jobc_command("run", "job.yaml", "target.hosts=[n1]", "nodes.max_restarts=1")
    assert done.returncode == 11, done.stderr
    said = [line for line in done.stderr.splitlines() if line.startswith("jobc: ") and " failed: " in line]
    again = "jobc: rank 1 on n1 failed: exit code 10; all processes start again (restart 1)"
    assert said == [again, "jobc: rank 1 on n1 failed: exit code 11"]
    assert sorted(done.stdout.splitlines()) == sorted(
        f"[{rank}] attempt {number}" for rank in (0, 1) for number in (0, 1)
    )
