"""The world that a process finds: from its environment, from its job, and when the two do not agree."""

import json
import textwrap

import pytest
import torch
from jobc import FindingsError
from jobc.runtime.world import read_spec, read_world
from jobc.spec.model import AutoHardware, Cpu, Gpu, Tpu

TORCHRUN = {
    "RANK": "1",
    "WORLD_SIZE": "2",
    "LOCAL_RANK": "1",
    "LOCAL_WORLD_SIZE": "2",
    "MASTER_ADDR": "localhost",
    "MASTER_PORT": "29500",
}

TWO = {"hardware": {"kind": "cpu", "per_node": 2}, "paradigm": {"kind": "ddp"}}

SHOW = r"""
import json, os, sys
before = dict(os.environ)
from jobc import Accelerator
accelerator = Accelerator()
accelerator.wait_for_everyone()
assert dict(os.environ) == before
mine = [accelerator.process_index, accelerator.num_processes, accelerator.gather([accelerator.process_index])]
sys.stdout.write(json.dumps(mine) + "\n")
"""


@pytest.fixture
def script(tmp_path):
    """Writes a script."""

    def write(text):
        path = tmp_path / "script.py"
        path.write_text(textwrap.dedent(text))
        return path

    return write


def lines(text):
    return sorted(line for line in text.splitlines() if line.startswith("["))


def test_world_without_variables_is_one_process():
    """A process that nobody launched is alone and opens no process group."""
    world = read_world({}, Cpu())
    assert (world.rank, world.size, world.backend, world.rendezvous) == (0, 1, None, None)
    assert world.is_main
    assert world.is_last
    assert read_world({"WORLD_SIZE": "1"}, Cpu()).size == 1


def test_world_is_read_from_torchruns_variables():
    """Rank, size and meeting point are what the launcher says, and the agent hosts the store only if it says so."""
    world = read_world({**TORCHRUN, "TORCHELASTIC_USE_AGENT_STORE": "True", "TORCHELASTIC_RESTART_COUNT": "3"}, Cpu())
    assert (world.rank, world.size, world.local_rank, world.local_size) == (1, 2, 1, 2)
    assert (world.device, world.backend) == (torch.device("cpu"), "gloo")
    assert world.rendezvous.agent_hosts
    assert world.rendezvous.attempt == "3"
    assert not read_world(TORCHRUN, Cpu()).rendezvous.agent_hosts


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"RANK": ""}, "RANK is not set"),
        ({"LOCAL_RANK": "", "MASTER_PORT": ""}, "LOCAL_RANK and MASTER_PORT are not set"),
        ({"WORLD_SIZE": ""}, "WORLD_SIZE is not set"),
        ({"RANK": "one"}, "RANK=one is no count"),
        ({"RANK": "2"}, "outside its world"),
        ({"LOCAL_WORLD_SIZE": "4"}, "outside its world"),
    ],
)
def test_world_half_described_is_refused(change, words):
    """Variables that are missing or make no sense are a finding, never a process that trains alone."""
    with pytest.raises(FindingsError, match="J501") as raised:
        read_world({**TORCHRUN, **change}, Cpu())
    assert words in str(raised.value)


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without GPU")
def test_world_without_the_gpu_it_needs_is_refused():
    """A job for GPUs does not train on the CPU by itself; `auto` does."""
    with pytest.raises(FindingsError, match="J505"):
        read_world({}, Gpu())
    assert read_world({}, AutoHardware()).device.type == "cpu"


def test_accelerator_on_a_tpu_is_refused():
    """A script that trains on TPUs by itself runs; the Accelerator says that it cannot."""
    with pytest.raises(FindingsError, match="trains on GPUs and CPUs only"):
        read_world({}, Tpu(per_node=1))


@pytest.mark.parametrize("value", ["z:no", "z:" + "AAAA", "/no/such/file"])
def test_spec_that_cannot_be_read_is_refused(value):
    """A broken value or a missing file behind JOBC_SPEC is a finding."""
    with pytest.raises(FindingsError, match="J502"):
        read_spec({"JOBC_SPEC": value})


def test_spec_is_read_from_a_file_or_from_the_variable(job, packed):
    """Both forms of JOBC_SPEC give the same job."""
    assert read_spec({"JOBC_SPEC": str(job(TWO))}).job == read_spec({"JOBC_SPEC": packed(TWO)}).job
    assert read_spec({}) is None


def test_torchrun_without_a_job_is_one_world_of_two(launch, script):
    """On a machine without GPU two processes of torchrun meet over gloo; the environment stays as it was."""
    ended = launch(script(SHOW))
    assert ended.returncode == 0, ended.stderr
    assert [json.loads(line) for line in lines(ended.stdout)] == [[0, 2, [0, 1]], [1, 2, [0, 1]]]
    assert "destroy_process_group" not in ended.stderr


def test_two_python_processes_without_an_agent_are_one_world(pair, script):
    """Where no agent hosts a store the first process does, and may end first; a second group can follow the first."""
    text = SHOW + "accelerator.end_training()\naccelerator = Accelerator()\naccelerator.wait_for_everyone()\n"
    text += "assert accelerator.gather([1]) == [1, 1]\n"
    for rank, (code, out, err) in enumerate(pair(script(text))):
        assert code == 0, err
        assert [json.loads(line) for line in lines(out)] == [[rank, 2, [0, 1]]]


def test_training_can_end_and_begin_again(launch, script):
    """After end_training another Accelerator of the same process opens a group of its own."""
    text = SHOW + "for _ in range(3):\n    accelerator.end_training()\n    accelerator.end_training()\n"
    text += "    accelerator = Accelerator()\n    assert accelerator.gather([1]) == [1, 1]\n"
    ended = launch(script(text))
    assert ended.returncode == 0, ended.stderr


def test_a_group_of_the_user_is_used_and_left_open(launch, script):
    """A process group that the script opened itself is the world, and end_training does not close it."""
    text = "from torch import distributed\ndistributed.init_process_group('gloo')\n" + SHOW
    text += "accelerator.end_training()\ndistributed.barrier()\ndistributed.destroy_process_group()\n"
    ended = launch(script(text))
    assert ended.returncode == 0, ended.stderr
    assert [json.loads(line) for line in lines(ended.stdout)] == [[0, 2, [0, 1]], [1, 2, [0, 1]]]


def test_more_processes_than_the_job_says_are_refused(launch, script, job):
    """Three processes of torchrun for a job of two are a finding in each, that names both numbers and the place."""
    ended = launch(script(SHOW), processes=3, JOBC_SPEC=job(TWO, ["hardware.per_node"]))
    assert ended.returncode != 0
    assert "error[J501]: the job has 2 (1 x 2) processes" in ended.stderr
    assert "world of 3" in ended.stderr
    assert "job.yaml:7:3" in ended.stderr


def test_fewer_processes_than_the_job_says_are_refused(alone, script, job):
    """A plain Python process of a job of two does not train alone."""
    ended = alone(script(SHOW), JOBC_SPEC=job(TWO))
    assert ended.returncode != 0
    assert "error[J501]: the job has 2 (1 x 2) processes" in ended.stderr


def test_a_process_that_fails_ends_the_others(launch, script):
    """An exception in one process is that process's traceback, and nobody waits at the end for it."""
    text = """
        from jobc import Accelerator
        accelerator = Accelerator()
        if accelerator.process_index == 1:
            raise KeyError("only here")
        accelerator.wait_for_everyone()
    """
    ended = launch(script(text), timeout=60)
    assert ended.returncode == 1
    assert "KeyError: 'only here'" in ended.stderr


def test_a_restarted_world_meets_again(launch, script):
    """After a restart by the agent the new processes find each other, not the addresses of the old ones."""
    text = r"""
        import os, sys
        import torch
        from jobc import Accelerator
        accelerator = Accelerator()
        accelerator.wait_for_everyone()
        if os.environ["TORCHELASTIC_RESTART_COUNT"] == "0" and accelerator.is_main_process:
            raise RuntimeError("first attempt")
        sys.stdout.write(f"[ {accelerator.reduce(torch.ones(1)).item()}\n")
    """
    ended = launch(script(text), options=["--max-restarts=1", "--monitor-interval=0.2"], timeout=100)
    assert ended.returncode == 0, ended.stderr
    assert lines(ended.stdout) == ["[ 2.0", "[ 2.0"]


def test_importing_the_runtime_imports_nothing_that_is_not_needed(alone, script):
    """`from jobc import Accelerator` costs little more than torch: writers of files and pictures come with their use."""
    text = """
        import json, sys
        import torch
        before = set(sys.modules)
        from jobc import Accelerator
        extra = {name.partition(".")[0] for name in set(sys.modules) - before}
        print(json.dumps(sorted(extra - sys.stdlib_module_names)))
    """
    ended = alone(script(text))
    assert ended.returncode == 0, ended.stderr
    assert json.loads(ended.stdout) == ["jobc", "msgspec"]
