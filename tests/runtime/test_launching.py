"""Processes that a script starts by itself, and variables for a while."""

import os
import pickle
import socket

import pytest
import torch
from jobc import (
    Accelerator,
    AcceleratorState,
    DistributedType,
    FindingsError,
    PartialState,
    PrepareForLaunch,
    patch_environment,
)
from torch import multiprocessing


def meet(folder, keywords):
    """What each process does: it meets the others and writes down who it is."""
    accelerator = Accelerator(cpu=True, **keywords)
    found = accelerator.gather(torch.tensor([accelerator.process_index, accelerator.local_process_index]))
    (folder / f"{accelerator.process_index}").write_text(f"{accelerator.num_processes} {found.tolist()}")
    accelerator.end_training()


def free_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


@pytest.mark.parametrize("kind", ["MULTI_CPU", DistributedType.MULTI_GPU])
def test_processes_of_torch_find_their_places(tmp_path, kind):
    """The example's two lines: variables around the start, and a callable that is pickled to each process."""
    launcher = PrepareForLaunch(meet, distributed_type=kind)
    with patch_environment(world_size=2, master_addr="127.0.0.1", master_port=free_port()):
        multiprocessing.start_processes(launcher, args=(tmp_path, {}), nprocs=2, start_method="spawn")
    assert "WORLD_SIZE" not in os.environ
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == dict.fromkeys("01", "2 [0, 0, 1, 1]")


def place():
    return {name: os.environ.get(name) for name in ("RANK", "LOCAL_RANK", "LOCAL_WORLD_SIZE")}


def test_place_is_by_machine_and_number():
    """NPROC and NODE_RANK say where among several machines; afterwards nothing is left."""
    launcher = pickle.loads(pickle.dumps(PrepareForLaunch(place, "FSDP")))
    with patch_environment(world_size=8, nproc=4, node_rank=1):
        assert launcher(2) == {"RANK": "6", "LOCAL_RANK": "2", "LOCAL_WORLD_SIZE": "4"}
    assert set(place().values()) == {None}
    assert set(PrepareForLaunch(place)(5).values()) == {None}


@pytest.mark.parametrize(
    ("keywords", "code", "words"),
    [
        ({"distributed_type": "MANY"}, "J507", "`MANY` is no kind of world"),
        ({"debug": True}, "J507", "use `debug_launcher"),
    ],
)
def test_impossible_launches_are_refused(keywords, code, words):
    """Before anything is started."""
    with pytest.raises(FindingsError) as raised:
        PrepareForLaunch(place, **keywords)
    assert raised.value.findings[0].code == code
    assert words in str(raised.value)


def test_world_that_is_not_described_is_refused():
    """The finding says what is missing, or is no number."""
    with pytest.raises(FindingsError, match=r"J501.*WORLD_SIZE is not set"):
        PrepareForLaunch(place, "MULTI_CPU")(0)
    with patch_environment(world_size="two"), pytest.raises(FindingsError, match="WORLD_SIZE=two is no count"):
        PrepareForLaunch(place, "MULTI_CPU")(0)


def test_variables_are_given_back(monkeypatch):
    """Upper-cased and as text within; afterwards, also after an error, what they were."""
    monkeypatch.setenv("JOBC_TEST_ONE", "old")
    with patch_environment(jobc_test_one=1, Jobc_Test_Two=None):
        assert (os.environ["JOBC_TEST_ONE"], os.environ["JOBC_TEST_TWO"]) == ("1", "None")
    with pytest.raises(ValueError, match="boom"), patch_environment(jobc_test_one=1, jobc_test_two=2):
        raise ValueError("boom")
    assert os.environ["JOBC_TEST_ONE"] == "old"
    assert "JOBC_TEST_TWO" not in os.environ


def test_state_is_that_of_the_newest_accelerator():
    """Made by itself, a state says what the Accelerator that was made last was set to; alone, what it is told."""
    accelerator = Accelerator(cpu=True, mixed_precision="bf16")
    assert AcceleratorState().mixed_precision == "bf16"
    assert str(AcceleratorState()) == str(accelerator.state)
    assert AcceleratorState(mixed_precision="fp16", cpu=True).mixed_precision == "fp16"
    other = Accelerator()
    assert AcceleratorState().mixed_precision == "no"
    del accelerator, other
    assert AcceleratorState(cpu=True).mixed_precision == "no"
    assert AcceleratorState().num_processes == PartialState().num_processes == 1
    assert AcceleratorState().distributed_type == DistributedType.NO
    with pytest.raises(FindingsError, match="`fp7` is not a precision"):
        AcceleratorState("fp7")


def test_state_knows_the_job(monkeypatch, job):
    """Before there is an Accelerator it says what the job says; another word is a contradiction."""
    one = {"hardware": {"kind": "cpu"}, "precision": {"kind": "fp16"}}
    monkeypatch.setenv("JOBC_SPEC", str(job(one, ["precision.kind"])))
    with pytest.raises(FindingsError, match="J503"):
        AcceleratorState(mixed_precision="bf16")
    assert AcceleratorState(mixed_precision="fp16").mixed_precision == "fp16"
