"""What each process may use: memory and CPUs."""

import os

import pytest

HUNGRY = """
import os, sys
held = []
try:
    for _ in range(8):
        held.append(bytearray(64 * 2**20))
except MemoryError:
    sys.exit(f"rank {os.environ.get('RANK', '0')} has no more memory")
print("has it all")
"""
BOUND = "import os; print(os.environ.get('RANK', '0'), sorted(os.sched_getaffinity(0)), flush=True)\n"
WAYS = {
    "one process": "hardware: cpu\n",
    "python": "hardware: {kind: cpu, per_node: 2}\nlauncher: python\n",
    "torchrun": "hardware: {kind: cpu, per_node: 2}\nlauncher: torchrun\n",
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("setup", ["", "setup: [export A=1]\n"])
def test_memory_beyond_the_limit_fails_in_the_process(jobc_command, folder, way, setup):
    """A process that allocates more gets an error of its own; the limit holds for each and not for their sum."""
    (folder / "train.py").write_text(HUNGRY)
    (folder / "job.yaml").write_text(f"script: train.py\n{WAYS[way]}{setup}")
    done = jobc_command("run", "job.yaml", "limits.memory=1GiB")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("has it all") == (1 if way == "one process" else 2)
    done = jobc_command("run", "job.yaml", "limits.memory=300MiB")
    assert done.returncode == 1
    assert "has no more memory" in done.stderr


def test_tensor_beyond_the_limit_fails_in_the_process(jobc_command, folder):
    """Memory of tensors on the CPU counts too, and the error says how much was asked for."""
    (folder / "train.py").write_text("import torch\nprint('ready')\ntorch.ones(2**28)\n")
    (folder / "job.yaml").write_text("script: train.py\nhardware: cpu\nlimits: {memory: 900MiB}\n")
    done = jobc_command("run", "job.yaml")
    assert (done.returncode, done.stdout) == (1, "ready\n")
    assert "can't allocate memory: you tried to allocate 1073741824 bytes" in done.stderr


def test_processes_are_bound_to_their_cpus(jobc_command, folder):
    """Each process has the CPUs of its entry."""
    cpus = sorted(os.sched_getaffinity(0))
    first, last = cpus[0], cpus[-1]
    (folder / "train.py").write_text(BOUND)
    (folder / "job.yaml").write_text(
        f"script: train.py\nlauncher: python\nhardware: {{kind: cpu, per_node: 2, cpu_affinity: ['{first}', '{last}']}}\n"
    )
    done = jobc_command("run", "job.yaml")
    assert done.returncode == 0, done.stderr
    assert sorted(done.stdout.splitlines()) == [f"[0] 0 [{first}]", f"[1] 1 [{last}]"]


def test_cpu_that_is_not_there_ends_the_run(jobc_command, folder):
    """The end of the run shows what the system said."""
    (folder / "train.py").write_text(BOUND)
    (folder / "job.yaml").write_text("script: train.py\nhardware: {kind: cpu, cpu_affinity: ['99999']}\n")
    done = jobc_command("run", "job.yaml")
    assert done.returncode == 1
    assert "taskset" in done.stderr
