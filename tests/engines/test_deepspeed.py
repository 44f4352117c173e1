"""The launcher `deepspeed`, for real: on this machine, on machines of `target: ssh`, and through the deepspeed command."""

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

TRAIN = """
import argparse, sys, torch, deepspeed
parser = deepspeed.add_config_arguments(argparse.ArgumentParser())
args = parser.parse_args()
deepspeed.init_distributed("gloo")
torch.manual_seed(0)
model = torch.nn.Linear(8, 1)
optimizer = torch.optim.Adam(model.parameters(), lr=0.1)
engine, *_ = deepspeed.initialize(args=args, model=model, optimizer=optimizer)
for _ in range(80):
    loss = (engine(torch.ones(4, 8)) - 3).pow(2).mean()
    engine.backward(loss)
    engine.step()
print(f"{engine.global_rank} of {engine.world_size}, stage {engine.zero_optimization_stage()},"
      f" micro batch {engine.train_micro_batch_size_per_gpu()}, accumulation {engine.gradient_accumulation_steps()},"
      f" clipping {engine.gradient_clipping()}, {'good' if loss.item() < 0.5 else loss.item()}", flush=True)
"""
END = """
import os, signal, sys, time
if os.environ["RANK"] == "1":
    time.sleep(1)
    print("so it ends", file=sys.stderr, flush=True)
    os.kill(os.getpid(), signal.SIGKILL) if sys.argv[1] == "kill" else sys.exit(int(sys.argv[1]))
time.sleep(600)
"""
SEEN = """
import json, os, sys
from pathlib import Path
names = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_PORT", "JOBC_SPEC", "HOSTILE", "BLANKS", "TOKEN")
said = {name: os.environ.get(name) for name in names}
Path(f"seen.{os.environ['RANK']}").write_text(json.dumps([sys.argv[1:], said]))
print("seen", flush=True)
"""
HOSTILE = ["--n", "a  b", "$HOME `id` \\ \"x\" 'y'", "%h%n%%", "*", ";", "", "two\nlines", "--", "é!", "-x=1"]
VALUE = "$HOME `id` \\ \"x\" 'y' %h%n%% ;*!é"


@pytest.fixture
def deepspeed(engine):
    """The environment that has DeepSpeed."""
    return engine("deepspeed")


@pytest.fixture
def job(folder, deepspeed):
    """Writes a job of two processes with a script of its own."""

    def write(script, **more):
        (folder / "train.py").write_text(script)
        said = {"script": "train.py", "name": "train", "python": deepspeed.python, "launcher": "deepspeed"}
        said |= {"hardware": {"kind": "cpu", "per_node": 2}, "env": deepspeed.variables(os.environ["PATH"])}
        said["env"].pop("DS_ACCELERATOR")
        for name, value in more.items():
            said[name] = {**said[name], **value} if isinstance(value, dict) and name in said else value
        (folder / "job.yaml").write_text(json.dumps(said))

    return write


@pytest.fixture
def two_machines(job, folder, ssh_hosts):
    """Writes a job that the deepspeed command starts on the machines of a hostfile, which share this one's disk."""

    def write(script, starter, **more):
        (folder / "hosts").write_text("n1 slots=1\nn2 slots=4\n")
        reach = {"PDSH_SSH_ARGS_APPEND": f"-F {ssh_hosts}"}
        paradigm = {"kind": "deepspeed", "hostfile": "hosts", "multinode_launcher": starter}
        nodes = {"rendezvous": {"address": "127.0.0.1"}}
        options = {"launcher_args": ["--no_ssh_check"], "env": {**reach, **more.pop("env", {})}}
        write_job = {"hardware": {"kind": "cpu"}, "nodes": nodes, **options, **more}
        write_job["paradigm"] = {**paradigm, **more.get("paradigm", {})}
        job(script, **write_job)
        said = json.loads((folder / "job.yaml").read_text())
        said["hardware"].pop("per_node")
        (folder / "job.yaml").write_text(json.dumps(said))

    return write


def seen(folder, rank):
    arguments, variables = json.loads((folder / f"seen.{rank}").read_text())
    return arguments, variables


CONFIGURED = {
    "paradigm": {"kind": "deepspeed", "zero_stage": 1, "config_argument": "--deepspeed_config"},
    "training": {"micro_batch": 4, "gradient_accumulation": 2, "gradient_clipping": 0.5},
}
TRAINED = "stage 1, micro batch 4, accumulation 2, clipping 0.5, good"


def test_script_of_deepspeeds_trains_with_what_the_job_says(jobc_command, job):
    """Two processes; stage, batch, accumulation and clipping come from the document, in the file that jobc writes."""
    job(TRAIN, **CONFIGURED)
    done = jobc_command("run", "job.yaml")
    assert done.returncode == 0, done.stdout + done.stderr
    lines = [line for line in done.stdout.splitlines() if "micro batch" in line]
    assert sorted(lines) == [f"[{rank}] {rank} of 2, {TRAINED}" for rank in range(2)]
    assert jobc_command("logs", "last", "--rank", "1").stdout.splitlines()[-1] == f"[1] 1 of 2, {TRAINED}"


def test_file_of_deepspeeds_own_is_passed_on(jobc_command, job, folder):
    """As it is written."""
    own = {
        "train_micro_batch_size_per_gpu": 2,
        "zero_allow_untested_optimizer": True,
        "zero_optimization": {"stage": 2},
    }
    (folder / "ds.json").write_text(json.dumps(own))
    job(TRAIN, paradigm={"kind": "deepspeed", "config_file": "ds.json", "config_argument": "--deepspeed_config"})
    done = jobc_command("run", "job.yaml")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "stage 2, micro batch 2, accumulation 1" in done.stdout


@pytest.mark.parametrize(("how", "code", "words"), [("7", 7, "exit code 7"), ("kill", 137, "signal 9 (SIGKILL)")])
def test_first_failure_is_told(jobc_command, job, how, code, words):
    """Which rank failed, how, with which last words; the others end with it."""
    job(END, args=[how])
    done = jobc_command("run", "job.yaml")
    assert done.returncode == code, done.stderr
    assert f"jobc: rank 1 failed: {words}\n  | [1] so it ends\n" in done.stderr


def test_one_process_keeps_the_terminal(jobc_command, job):
    """Nothing stands before its lines."""
    job(SEEN, hardware={"per_node": 1})
    done = jobc_command("run", "job.yaml")
    assert (done.returncode, done.stdout) == (0, "seen\n"), done.stderr


def test_own_accelerator_finds_its_place(jobc_command, job):
    """A script that calls jobc instead of DeepSpeed has the same world."""
    job(
        "import torch\nfrom jobc import Accelerator\na = Accelerator()\n"
        "print(a.gather(torch.tensor([a.process_index])).tolist(), flush=True)\n"
    )
    done = jobc_command("run", "job.yaml")
    assert sorted(done.stdout.splitlines()) == ["[0] [0, 1]", "[1] [0, 1]"], done.stderr


def test_own_accelerator_says_that_it_has_no_deepspeed_yet(jobc_command, job):
    """The script's own DeepSpeed runs; the Accelerator's does not, and says so in the process."""
    job("from jobc import Accelerator\nAccelerator()\n", paradigm="deepspeed")
    done = jobc_command("run", "job.yaml")
    assert done.returncode == 1
    assert "error[J409]: `paradigm: deepspeed` can be planned" in done.stderr


def test_each_machine_of_ssh_has_its_own_command(jobc_command, job, ssh_hosts, tmp_path):
    """No deepspeed command reaches any machine: jobc does, and the configuration comes along."""
    there = tmp_path / "there"
    target = {"kind": "ssh", "hosts": ["n1", "n2"], "config": str(ssh_hosts), "folder": str(there)}
    nodes = {"rendezvous": {"address": "127.0.0.2"}}
    job(TRAIN, target=target, nodes=nodes, hardware={"per_node": 1}, **CONFIGURED)
    done = jobc_command("run", "job.yaml")
    assert done.returncode == 0, done.stdout + done.stderr
    lines = [line for line in done.stdout.splitlines() if "micro batch" in line]
    assert sorted(lines) == [f"[{rank}] {rank} of 2, {TRAINED}" for rank in range(2)]


def test_failure_on_a_machine_of_ssh_is_told(jobc_command, job, ssh_hosts, tmp_path):
    """The exit code is the process's, not the launcher's, which makes 247 of a kill."""
    target = {"kind": "ssh", "hosts": ["n1", "n2"], "config": str(ssh_hosts), "folder": str(tmp_path / "there")}
    job(END, args=["kill"], target=target, hardware={"per_node": 1}, nodes={"rendezvous": {"address": "127.0.0.2"}})
    done = jobc_command("run", "job.yaml")
    assert done.returncode == 137, done.stderr
    assert "jobc: the machine n2 failed: signal 9 (SIGKILL)" in done.stderr


@pytest.mark.parametrize("starter", ["pdsh", "openmpi"])
def test_deepspeed_command_starts_the_machines_of_a_hostfile(jobc_command, two_machines, folder, starter, ssh_hosts):
    """Arguments and variables reach every process byte for byte, which those of DeepSpeed's own ways do not."""
    more = {}
    if starter == "openmpi":
        if shutil.which("mpirun") is None:
            pytest.skip("mpirun is not installed: make engines")
        agent = ["--mca", "plm_rsh_agent", f"ssh -F {ssh_hosts}", "--mca", "oob_tcp_if_include", "lo"]
        more["paradigm"] = {"multinode_args": [*agent, "--mca", "btl_tcp_if_include", "lo"]}
        more["secrets"] = ["TOKEN"]
    allowed = {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}
    two_machines(SEEN, starter, args=HOSTILE, env={"HOSTILE": VALUE, **allowed}, **more)
    done = jobc_command("run", "job.yaml", env={"TOKEN": "a secret"})
    assert done.returncode == 0, done.stdout + done.stderr
    assert sorted(done.stdout.splitlines()) == ["[0] seen", "[1] seen"]
    for rank in ("0", "1"):
        arguments, variables = seen(folder, rank)
        assert arguments == HOSTILE
        assert variables["HOSTILE"] == VALUE
        assert (variables["RANK"], variables["WORLD_SIZE"], variables["LOCAL_RANK"]) == (rank, "2", "0")
        assert variables["JOBC_SPEC"].startswith("z:")
        assert variables["TOKEN"] == ("a secret" if starter == "openmpi" else None)


def test_deepspeed_trains_on_machines_that_pdsh_reaches(jobc_command, two_machines):
    """The whole way: hostfile, variables, configuration, gloo between two machines."""
    two_machines(TRAIN, "pdsh", **CONFIGURED)
    done = jobc_command("run", "job.yaml")
    assert done.returncode == 0, done.stdout + done.stderr
    lines = [line for line in done.stdout.splitlines() if "micro batch" in line]
    assert sorted(lines) == [f"[{rank}] {rank} of 2, {TRAINED}" for rank in range(2)]


def test_failure_behind_pdsh_is_told(jobc_command, two_machines):
    """With the exit code of the process, which pdsh makes another number of."""
    two_machines(END, "pdsh", args=["kill"])
    done = jobc_command("run", "job.yaml")
    assert done.returncode == 137, done.stdout + done.stderr


def test_stopped_run_leaves_no_process(jobc_command, job, folder):
    """What DeepSpeed's launcher started ends with it."""
    job(
        "import os, time\nfrom pathlib import Path\n"
        "Path(f\"pid.{os.environ['RANK']}\").write_text(str(os.getpid()))\ntime.sleep(600)\n"
    )
    assert jobc_command("run", "-d", "job.yaml").returncode == 0
    files = [folder / f"pid.{rank}" for rank in range(2)]
    for _ in range(600):
        if all(path.exists() and path.read_text() for path in files):
            break
        time.sleep(0.1)
    pids = [int(path.read_text()) for path in files]
    assert jobc_command("stop", "last").returncode == 0
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids)


def test_each_node_of_a_slurm_job_has_its_own_command(jobc_command, job, slurm, monkeypatch):
    """Slurm places DeepSpeed's launcher once on each node, and the configuration comes along."""
    monkeypatch.setenv("SLURM_CONF", slurm.env["SLURM_CONF"])
    job(TRAIN, target="slurm", nodes=2, hardware={"per_node": 1}, **CONFIGURED)
    done = jobc_command("run", "job.yaml")
    assert done.returncode == 0, done.stdout + done.stderr
    lines = [line for line in done.stdout.splitlines() if "micro batch" in line]
    assert sorted(lines) == [f"[{rank}] {rank} of 2, {TRAINED}" for rank in range(2)]


def test_deepspeed_command_starts_the_nodes_of_an_allocation(two_machines, folder, slurm):
    """srun is told which nodes, and gives every process its place."""
    two_machines(SEEN, "slurm", args=HOSTILE, env={"HOSTILE": VALUE})
    (folder / "hosts").write_text("jobc-n1 slots=1\njobc-n2 slots=1\n")
    env = {**os.environ, **slurm.env, "JOBC": f"{sys.executable} -m jobc"}
    command = ["salloc", "--quiet", "--nodes=2", "--ntasks-per-node=1", "bash", "-c", "$JOBC run job.yaml"]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=110)
    assert done.returncode == 0, done.stdout + done.stderr
    for rank in ("0", "1"):
        arguments, variables = seen(folder, rank)
        assert arguments == HOSTILE
        assert variables["HOSTILE"] == VALUE
        assert (variables["RANK"], variables["WORLD_SIZE"], variables["LOCAL_RANK"]) == (rank, "2", "0")
