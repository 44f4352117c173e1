"""Jobs on a real Slurm of two nodes: submitted, followed, stopped, failed, queued again, and what is left of them."""

import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from slurm_jobs import Cluster

EXAMPLES = Path(__file__).parents[2] / "examples"
WHO = "import os\nprint('rank', os.environ['RANK'], 'of', os.environ['WORLD_SIZE'], 'on', os.environ['SLURMD_NODENAME'])\n"


@pytest.mark.parametrize("launcher", ["torchrun", "python"])
def test_job_runs_on_both_nodes(cluster, launcher):
    """Every rank has its place; its lines are shown as they come, and kept by rank."""
    cluster.write(WHO, per_node=2)
    done = cluster.run(f"launcher={launcher}")
    assert done.returncode == 0, done.stderr
    told = re.findall(r"^\[(\d)\] rank (\d) of 4 on jobc-n[12]$", done.stdout, re.MULTILINE)
    assert sorted(told) == [(str(rank), str(rank)) for rank in range(4)]
    assert "jobc: succeeded (COMPLETED)" in done.stderr
    assert "[3] rank 3 of 4" in cluster.jobc("logs", "last", "--rank", "3").stdout


@pytest.mark.parametrize("launcher", ["torchrun", "python"])
def test_failing_rank_ends_the_job(cluster, launcher):
    """Its exit code is that of the run, also where another rank would have gone on for long."""
    cluster.write("import os, sys, time\nos.environ['RANK'] == '1' and sys.exit(7)\ntime.sleep(300)\n")
    done = cluster.run(f"launcher={launcher}")
    assert done.returncode == 7, done.stdout + done.stderr
    if launcher == "torchrun":
        assert "jobc: rank 1 failed: exit code 7" in done.stderr
    assert cluster.record(done.stderr.split()[2])["state"] == "failed"


FAILS_ONCE = """
import os, sys
import torch
from jobc import Accelerator
accelerator, attempt = Accelerator(), os.environ["TORCHELASTIC_RESTART_COUNT"]
accelerator.wait_for_everyone()
if (attempt, accelerator.process_index) == ("0", 1):
    sys.exit(3)
print("attempt", attempt, "adds up to", int(accelerator.reduce(torch.ones(1))), flush=True)
"""


def test_all_nodes_start_again_after_one_failed(cluster):
    """Within the same allocation, through torchrun; all processes meet anew."""
    cluster.write(FAILS_ONCE)
    done = cluster.run("nodes.max_restarts=1")
    assert done.returncode == 0, done.stdout + done.stderr
    assert sorted(re.findall(r"^\[(\d)\] attempt 1 adds up to 2$", done.stdout, re.MULTILINE)) == ["0", "1"]


def test_run_goes_on_by_itself_until_it_is_stopped(cluster):
    """Submitted and left; whoever asks hears how it is and what it wrote, and can end it."""
    cluster.write("import time\nprint('began', flush=True)\ntime.sleep(300)\n")
    run, job = cluster.submit()
    cluster.until(lambda: "[1] began" in cluster.jobc("logs", run).stdout)
    assert "running" in cluster.jobc("status", run).stdout
    done = cluster.jobc("stop", run)
    assert (done.returncode, cluster.state(job)) == (0, "CANCELLED"), done.stderr
    assert (cluster.record(run)["state"], cluster.record(run)["exit_code"]) == ("stopped", 143)
    assert cluster.jobc("wait", run).returncode == 143


def test_run_that_waits_in_the_queue_is_stopped(cluster):
    """Nothing of it has begun."""
    cluster.write(WHO, target="{kind: slurm, extra: [--begin=now+1hour]}")
    run, job = cluster.submit()
    assert "pending" in cluster.jobc("status", run).stdout
    assert cluster.jobc("stop", run).returncode == 0
    assert (cluster.record(run)["state"], cluster.state(job)) == ("stopped", "CANCELLED")


def test_job_that_others_cancel_is_stopped(cluster):
    """An administrator's scancel is noticed by who waits for the run."""
    cluster.write("import time\ntime.sleep(300)\n", nodes=1)
    run, job = cluster.submit()
    cluster.until(lambda: cluster.state(job) == "RUNNING")
    cluster.slurm.run("scancel", job)
    assert cluster.jobc("wait", run).returncode == 143
    assert cluster.record(run)["word"] == "CANCELLED"


@pytest.mark.parametrize(("code", "state"), [(0, "succeeded"), (7, "failed")])
def test_run_that_slurm_has_forgotten_is_known(cluster, code, state):
    """After some minutes slurmctld knows no ended job; here it never heard of the number."""
    cluster.write(f"import sys\nsys.exit({code})\n", nodes=1)
    run, job = cluster.submit()
    cluster.until(lambda: cluster.state(job) in ("COMPLETED", "FAILED"))
    kept = cluster.home(run) / "record.json"
    kept.write_text(re.sub(r'("job_id": ?)"\d+"', r'\1"999999"', kept.read_text()))
    assert cluster.record(run)["captured"] == {"job_id": "999999"}
    assert cluster.jobc("wait", run).returncode == code
    assert cluster.record(run)["state"] == state


def test_accounting_knows_how_a_forgotten_job_ended(slurm_accounting, folder, jobc_command, monkeypatch):
    """Where sacct answers, its word counts once slurmctld has forgotten the job, whatever the batch script left."""
    monkeypatch.setenv("SLURM_CONF", slurm_accounting.env["SLURM_CONF"])
    cluster = Cluster(slurm_accounting, folder, jobc_command)
    cluster.write("import time\ntime.sleep(300)\n", nodes=1)
    run, job = cluster.submit()
    cluster.until(lambda: cluster.state(job) == "RUNNING")
    slurm_accounting.run("scancel", job)
    asked = ("sacct", "--allocations", "--noheader", "--parsable2", "--format=State", f"--jobs={job}")
    cluster.until(lambda: slurm_accounting.run(*asked).startswith("CANCELLED"))
    forgetful = folder / "squeue"
    forgetful.write_text("#!/bin/sh\nexit 1\n")
    forgetful.chmod(0o755)
    (cluster.home(run) / "ended").unlink(missing_ok=True)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    assert cluster.jobc("wait", run).returncode == 143
    assert (cluster.record(run)["state"], cluster.record(run)["word"]) == ("stopped", "CANCELLED")


def test_job_that_slurm_refuses_says_why(cluster):
    """Before a run, and in it, in sbatch's own words."""
    cluster.write(WHO, target="{kind: slurm, partition: nope}")
    for done in (cluster.jobc("check", "--preflight", "job.yaml"), cluster.run()):
        assert done.returncode != 0
        assert "invalid partition specified: nope" in done.stdout + done.stderr
        assert "Traceback" not in done.stderr


@pytest.mark.parametrize("example", sorted(path.parent.name for path in EXAMPLES.glob("*/job.yaml")))
def test_slurm_would_take_every_example(cluster, monkeypatch, tmp_path, example):
    """sbatch --test-only on the script of each plan, on processors and on GPUs."""
    folder = tmp_path / example
    shutil.copytree(EXAMPLES / example, folder, ignore=shutil.ignore_patterns("out", "__pycache__", "checkpoints"))
    for launcher in ("python", "torchrun"):
        for hardware in (
            ("hardware=cpu", "hardware.per_node=2"),
            ("hardware=gpu", "hardware.per_node=4", "target.gpu_type=h100"),
            ("hardware=gpu", "hardware.per_node=2", "target.gpus=gres", "target.requeue=true", "limits.minutes=3"),
        ):
            words = ["target=slurm", f"launcher={launcher}", "nodes=2", "nodes.max_restarts=0", *hardware]
            done = cluster.jobc("check", "--preflight", str(folder / "job.yaml"), "target.cpus_per_task=1", *words)
            assert done.returncode == 0, done.stdout + done.stderr


def test_run_begins_after_the_one_it_depends_on(cluster):
    """Slurm holds it back until then, and drops it where the other fails."""
    cluster.write(
        "import sys, time\ntime.sleep(2)\nopen('order', 'a').write(sys.argv[1])\nsys.exit(sys.argv[1] == 'c')\n",
        nodes=1,
    )
    cluster.submit("args=[a]")
    second, _ = cluster.submit("args=[b]", "depends_on=[last]")
    failing, _ = cluster.submit("args=[c]")
    third, _ = cluster.submit("args=[d]", f"depends_on=[{second},{failing}]")
    assert cluster.jobc("wait", second).returncode == 0
    assert cluster.jobc("wait", third).returncode == 143
    order = (cluster.folder / "order").read_text()
    assert order.index("a") < order.index("b")
    assert "d" not in order


def test_processes_that_srun_started_are_a_job(cluster):
    """`target: inherit`: every task runs jobc, and together they are the world."""
    cluster.write(WHO, target="inherit", per_node=2)
    command = ["srun", "--nodes=2", "--ntasks-per-node=2", sys.executable, "-m", "jobc", "run", "job.yaml"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    told = re.findall(r"^rank (\d) of 4 on (jobc-n[12])$", done.stdout, re.MULTILINE)
    assert [rank for rank, _ in sorted(told)] == ["0", "1", "2", "3"]
    assert {node for _, node in told} == {"jobc-n1", "jobc-n2"}


SWEPT = """
import sys, time
from pathlib import Path
word = sys.argv[1]
print("trained with", word, flush=True)
while word.startswith("wait") and not Path("go").exists():
    time.sleep(0.1)
sys.exit(word == "2")
"""


def rows_of(sweep):
    """The runs of a sweep and their states, in the order of its table."""
    return re.findall(r"^args=\S+ +(\S+) +(succeeded|failed)", sweep.stdout.replace("'", ""), re.MULTILINE)


def test_sweep_is_one_array(cluster):
    """Runs that ask for the same are elements of one job, so many at a time; each has its record, what fails is named."""
    cluster.write(SWEPT, nodes=1)
    words = ("-m", "--jobs", "2", "job.yaml", "args=[1],[2],[3]")
    shown = cluster.jobc("plan", *words).stdout
    assert "#SBATCH --array=0-2%2" in shown
    done = cluster.jobc("run", *words)
    assert done.returncode == 1
    rows = rows_of(done)
    assert [state for _, state in rows] == ["succeeded", "failed", "succeeded"]
    numbers = [cluster.record(run)["captured"]["job_id"].split("_") for run, _ in rows]
    assert [place for _, place in numbers] == ["0", "1", "2"]
    assert len({number for number, _ in numbers}) == 1
    assert "trained with 3" in cluster.jobc("logs", rows[2][0]).stdout


def test_runs_that_ask_for_more_are_an_array_of_their_own(cluster):
    """One node or two: two arrays; a run that no other is like is a job by itself."""
    cluster.write(SWEPT, nodes=1)
    done = cluster.jobc("run", "-m", "-d", "job.yaml", "args=[1],[3]", "nodes=1,2")
    alone = cluster.jobc("run", "-m", "-d", "job.yaml", "args=[1]", "nodes=1,2")
    assert (done.returncode, alone.returncode) == (0, 0), done.stderr + alone.stderr
    numbers = [cluster.record(run)["captured"]["job_id"] for run in done.stdout.split()]
    assert [number.partition("_")[2] for number in numbers] == ["0", "0", "1", "1"]
    assert numbers[0][:-2] == numbers[2][:-2] != numbers[1][:-2] == numbers[3][:-2]
    assert not any("_" in cluster.record(run)["captured"]["job_id"] for run in alone.stdout.split())
    for run in (*done.stdout.split(), *alone.stdout.split()):
        assert cluster.jobc("wait", run).returncode == 0


def test_one_run_of_an_array_is_stopped(cluster):
    """The last element to begin has the number of the whole array; the others go on all the same."""
    cluster.write(SWEPT, nodes=1)
    first, second, third = cluster.jobc("run", "-m", "-d", "job.yaml", "args=[wait1],[wait2],[wait3]").stdout.split()
    for run in (first, second, third):
        cluster.until(lambda run=run: "trained with" in cluster.jobc("logs", run).stdout)
    stopped = cluster.jobc("stop", third)
    assert stopped.returncode == 0, stopped.stderr
    assert (cluster.record(third)["state"], cluster.record(third)["exit_code"]) == ("stopped", 143)
    assert "running" in cluster.jobc("status", first).stdout
    (cluster.folder / "go").touch()
    assert [cluster.jobc("wait", run).returncode for run in (first, second)] == [0, 0]


def test_sweep_that_is_interrupted_goes_on(cluster):
    """Slurm has the runs; who followed them learns how to ask for them."""
    cluster.write(SWEPT, nodes=1)
    command = [sys.executable, "-m", "jobc", "run", "-m", "job.yaml", "args=[wait1],[wait2]"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as running:
        cluster.until(lambda: len(cluster.jobc("ps").stdout.splitlines()) == 3)
        runs = [line.split()[0] for line in cluster.jobc("ps").stdout.splitlines()[1:]]
        for run in runs:
            cluster.until(lambda run=run: "trained with" in cluster.jobc("logs", run).stdout)
        running.send_signal(signal.SIGINT)
        _, said = running.communicate(timeout=60)
    assert running.returncode == 130
    assert "jobc: 2 runs go on; `jobc status RUN` asks for one, `jobc stop RUN` ends it" in said
    (cluster.folder / "go").touch()
    assert [cluster.jobc("wait", run).returncode for run in runs] == [0, 0]


def test_array_that_slurm_refuses_leaves_no_run_underway(cluster):
    """Said once, in sbatch's words; every run of it has failed."""
    cluster.write(SWEPT, nodes=1, target="{kind: slurm, partition: nope}")
    done = cluster.jobc("run", "-m", "job.yaml", "args=[1],[3]")
    assert done.returncode == 1
    assert done.stderr.count("invalid partition specified: nope") == 1
    assert [state for _, state in rows_of(done)] == ["failed", "failed"]
