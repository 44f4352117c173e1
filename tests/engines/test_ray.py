"""The target `ray` on a real cluster of two nodes: training, exit codes, secrets, stopping, limits, hostile strings."""

import re
import shutil
import time
from pathlib import Path

import pytest

DIGITS = Path(__file__).parents[2] / "examples" / "digits"
GATHER = """
import os, sys, torch
from jobc import Accelerator
accelerator = Accelerator()
ranks = accelerator.gather(torch.tensor([accelerator.process_index])).tolist()
print("gathered", ranks, os.environ.get("TOKEN"), flush=True)
sys.exit(int(sys.argv[1]) if len(sys.argv) > 1 and accelerator.is_last_process else 0)
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
    for _ in range(seconds * 10):
        if condition():
            return
        time.sleep(0.1)
    raise AssertionError("it never came to pass")


@pytest.fixture
def there(tmp_path):
    """The folder on the nodes that the job's files are unpacked in."""
    return tmp_path / "there"


@pytest.fixture
def ray_job(ray_cluster, jobc_command, folder, there):
    """Writes a job for the cluster, and runs commands that find it."""

    def command(*words, **env):
        return jobc_command(*words, env={**ray_cluster.env, **env})

    def job(script, more="", per_node=1, nodes=2):
        (folder / "train.py").write_text(script)
        (folder / "job.yaml").write_text(
            f"script: train.py\nname: train\nhardware: {{kind: cpu, per_node: {per_node}}}\nnodes: {nodes}\n"
            f"target: {{kind: ray, folder: {there}, cpus: 1}}\n{more}"
        )
        return command

    return job


@pytest.mark.parametrize("backend", ["c10d", "static"])
def test_processes_of_two_nodes_train_together(ray_job, backend):
    """Files and secrets reach both nodes, four ranks gather, each line carries its rank, and logs are kept."""
    secret = "a secret with ${HOME}, $$ and 'é'"
    jobc = ray_job(GATHER, "secrets: [TOKEN]\n", per_node=2)
    done = jobc("run", "job.yaml", f"nodes.rendezvous.backend={backend}", TOKEN=secret)
    assert done.returncode == 0, done.stdout + done.stderr
    said = [line for line in done.stdout.splitlines() if "gathered" in line]
    assert sorted(said) == [f"[{rank}] gathered [0, 1, 2, 3] {secret}" for rank in range(4)]
    assert jobc("logs", "last", "--rank", "3").stdout == f"[3] gathered [0, 1, 2, 3] {secret}\n"
    assert "state      succeeded" in jobc("status", "last").stdout


def test_secrets_stand_in_no_file_here(ray_job, folder):
    """Neither the plan nor the record of a run nor what is submitted has the value, in whatever form."""
    jobc = ray_job("print('trained')\n", "secrets: [TOKEN]\n", nodes=1)
    assert jobc("run", "job.yaml", TOKEN="unmistakable").returncode == 0
    files = [path.read_bytes() for path in (folder.parent / "state").rglob("*") if path.is_file()]
    assert files
    assert not any(word in content for content in files for word in (b"unmistakable", b"dW5taXN0YWthYmxl"))


@pytest.mark.parametrize("launcher", ["torchrun", "python"])
def test_exit_code_is_that_of_the_rank_that_failed(ray_job, launcher):
    """torchrun exits 1 for everything, and Ray says only that a job failed; the others are ended."""
    script = "import os, sys, time\nif os.environ['RANK'] == '1': sys.exit(7)\ntime.sleep(600)\n"
    jobc = ray_job(script, f"launcher: {launcher}\n")
    done = jobc("run", "job.yaml")
    assert done.returncode == 7, done.stdout + done.stderr
    assert "jobc: rank 1 failed: exit code 7" in done.stdout
    assert "state      failed with exit code 7" in jobc("status", "last").stdout


def test_signal_of_a_process_is_told(ray_job):
    """As a shell has it: 128 and the number of the signal."""
    jobc = ray_job("import os, signal\nos.kill(os.getpid(), signal.SIGKILL)\n", nodes=1)
    done = jobc("run", "job.yaml")
    assert (done.returncode, "failed: signal 9" in done.stdout) == (137, True), done.stdout


def test_run_is_left_to_ray_and_stopped(ray_job, there):
    """`jobc run -d` returns, `jobc status` asks Ray, `jobc stop` ends every process on both nodes."""
    jobc = ray_job(SLEEP)
    run = jobc("run", "-d", "job.yaml").stdout.splitlines()[-1]
    pids = [there / "train" / "files" / f"pid.{rank}" for rank in (0, 1)]
    wait_for(lambda: all(path.exists() and path.read_text() for path in pids))
    wait_for(lambda: "[1] ready" in jobc("logs", run).stdout)
    assert "state      running" in jobc("status", run).stdout
    done = jobc("stop", run)
    assert (done.returncode, f"{run} stopped" in done.stderr) == (0, True), done.stderr
    wait_for(lambda: not any(Path(f"/proc/{path.read_text()}").exists() for path in pids))
    assert jobc("wait", run).returncode == 143


def test_time_limit_ends_the_run(ray_job):
    """Ray has no limit of its own: the driver asks all to end, and the exit code is that of timeout(1)."""
    done = ray_job(SLEEP, "limits: {minutes: 0.05}\n", nodes=1)("run", "job.yaml")
    assert done.returncode == 124, done.stdout + done.stderr
    assert "jobc: ended after its time limit of 3 s" in done.stdout


def test_single_process_writes_without_a_rank_and_finds_its_folder(ray_job, folder, there):
    """`setup`, `workdir` and what Ray is asked for; files that can be run still can."""
    more = "workdir: below\nsetup: ['export FROM_SETUP=yes']\nenv: {A: '1'}\n"
    jobc = ray_job(
        "import os, subprocess\nprint(os.environ['FROM_SETUP'], os.environ['A'], os.environ.get('OMP_NUM_THREADS'))\n"
        "print(os.environ['CUDA_VISIBLE_DEVICES'], os.getcwd(), flush=True)\nsubprocess.run(['../tool'], check=True)\n",
        more,
        nodes=1,
    )
    (folder / "below").mkdir()
    (folder / "below" / "kept").write_text("")
    (folder / "tool").write_text("#!/bin/sh\necho a tool\n")
    (folder / "tool").chmod(0o755)
    done = jobc("run", "job.yaml", "hardware={kind: gpu, per_node: 1}", "script=train.py")
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines()[-3:] == [
        "yes 1 None",
        f"{re.search(r'(?m)^([0-3]) ', done.stdout)[1]} {there}/train/files/below",
        "a tool",
    ]


def test_preflight_asks_the_cluster(ray_job):
    """A cluster that answers would take the job; one that does not is a finding."""
    jobc = ray_job("")
    done = jobc("check", "--preflight", "job.yaml")
    assert done.returncode == 0, done.stdout + done.stderr
    done = jobc("check", "--preflight", "job.yaml", "target.address=http://127.0.0.9:1")
    assert done.returncode == 2
    assert "error[J431]" in done.stdout + done.stderr
    assert "Failed to connect to Ray" in done.stdout + done.stderr


def test_digits_train_on_two_nodes(ray_cluster, jobc_command, folder, there):
    """The example reaches its accuracy there, with nothing in its document changed."""
    shutil.copytree(DIGITS, folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns("out", "__pycache__"))
    words = ("target=ray", f"target.folder={there}", "target.cpus=1", "nodes=2", "hardware.per_node=1")
    done = jobc_command("run", "job.yaml", *words, env=ray_cluster.env, timeout=280)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    said = [line for line in done.stdout.splitlines() if "test accuracy" in line]  # one of each node
    assert len(said) == 2
    assert float(said[0].rpartition(" ")[2]) >= 0.97
