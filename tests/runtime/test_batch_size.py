"""The largest batch size that fits, found by one process."""

import pytest
import torch
from jobc import Accelerator, find_executable_batch_size, set_seed
from jobc.spec.findings import FindingsError
from torch.utils.data import DataLoader, TensorDataset


def needs(limit, tried, error=MemoryError):
    def train(batch_size, *args):
        tried.append(batch_size)
        if batch_size > limit:
            raise error
        return batch_size, args

    return train


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        RuntimeError("CUDA out of memory. Tried to allocate 2 GiB"),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate"),
    ],
)
def test_size_is_halved_until_it_fits(error):
    """Every kind of error that means memory; other arguments are passed on."""
    tried = []
    assert find_executable_batch_size(needs(10, tried, error))("x") == (8, ("x",))
    assert tried == [128, 64, 32, 16, 8]


@pytest.mark.parametrize("rule", [lambda size: size - 3, iter([6, 3, 1]).__next__])
def test_rule_of_the_caller_holds(rule):
    """As an argument of the decorator, with or without the present size."""
    tried = []

    @find_executable_batch_size(starting_batch_size=9, reduce_batch_size_fn=rule)
    def train(batch_size):
        return needs(3, tried)(batch_size)

    assert train() == (3, ())
    assert tried == [9, 6, 3]


def test_next_attempt_begins_with_nothing_of_the_one_before():
    """Memory ran out within an accumulation window, in the second epoch's first batches."""
    accelerator, ends = Accelerator(gradient_accumulation_steps=2, cpu=True), []

    @find_executable_batch_size(starting_batch_size=8)
    def train(batch_size, limit):
        accelerator.free_memory()
        set_seed(0)
        model = torch.nn.Linear(2, 1)
        data = DataLoader(TensorDataset(torch.randn(24, 2)), batch_size=batch_size, shuffle=True)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        model, optimizer, data = accelerator.prepare(model, optimizer, data)
        for epoch in accelerator.epochs(2):
            for (x,) in data:
                with accelerator.accumulate(model):
                    accelerator.backward(model(x).square().mean())
                    if epoch and batch_size > limit:
                        raise MemoryError
                    optimizer.step()
                    optimizer.zero_grad()
        ends.append((accelerator.step, accelerator.epoch, *model.weight.flatten().tolist()))

    train(4)
    find_executable_batch_size(train.__wrapped__, starting_batch_size=4)(4)
    assert ends[0][:2] == (6, 2)
    assert ends[0] == ends[1]


def test_accumulation_can_be_chosen_for_the_size():
    """The global batch stays: windows of as many batches as were set, before anything is prepared or later."""
    ends = []
    for first, later in ((2, None), (1, 2), (4, 2)):
        accelerator = Accelerator(gradient_accumulation_steps=first, cpu=True)
        if later is not None:
            accelerator.gradient_accumulation_steps = later
        assert accelerator.gradient_accumulation_steps == 2
        set_seed(0)
        model = torch.nn.Linear(2, 1)
        data = DataLoader(TensorDataset(torch.randn(12, 2)), batch_size=2)
        model, optimizer, data = accelerator.prepare(model, torch.optim.SGD(model.parameters(), lr=0.1), data)
        for number, (x,) in enumerate(data):
            if number == 4:
                accelerator.gradient_accumulation_steps = 1
            with accelerator.accumulate(model):
                accelerator.backward(model(x).square().mean())
                optimizer.step()
                optimizer.zero_grad()
        ends.append((accelerator.step, *model.weight.flatten().tolist()))
    assert ends[0][0] == 4
    assert ends[0] == ends[1] == ends[2]


def test_accumulation_that_comes_too_late_is_refused():
    """An optimizer that was prepared to step with each batch cannot wait; a number that is none is refused at once."""
    accelerator = Accelerator(cpu=True)
    with pytest.raises(FindingsError, match=r"J507.*`0` is not a whole number"):
        accelerator.gradient_accumulation_steps = 0
    model = torch.nn.Linear(2, 1)
    model, _ = accelerator.prepare(model, torch.optim.SGD(model.parameters(), lr=0.1))
    accelerator.gradient_accumulation_steps = 2
    with pytest.raises(FindingsError, match=r"J507.*set to `2` after an optimizer was prepared"):
        accelerator.backward(model(torch.ones(1, 2)).sum())


def test_no_size_fits():
    """Below one sample there is nothing to try."""
    with pytest.raises(RuntimeError, match="no batch size from 4 down"):
        find_executable_batch_size(needs(0, []), starting_batch_size=4)()


def test_other_errors_are_not_about_memory():
    """They are raised at the first attempt."""
    tried = []
    with pytest.raises(ValueError, match="shape"):
        find_executable_batch_size(needs(1, tried, ValueError("shape")))()
    assert tried == [128]


def test_size_is_not_the_callers():
    """A batch size that is given twice is a mistake."""

    @find_executable_batch_size
    def train(batch_size):
        return batch_size

    for args, keywords in (((3,), {}), ((), {"batch_size": 3})):
        with pytest.raises(TypeError, match="leave it away"):
            train(*args, **keywords)


TOGETHER = """
import sys
import torch
from jobc import Accelerator, find_executable_batch_size
accelerator = Accelerator()
tried = []

@find_executable_batch_size(starting_batch_size=16)
def train(batch_size):
    accelerator.free_memory()
    tried.append(batch_size)
    model = torch.nn.Linear(4, 1)
    model, optimizer = accelerator.prepare(model, torch.optim.SGD(model.parameters(), lr=0.1))
    for step in range(6):
        if accelerator.is_last_process and step == 2 and batch_size > 4:
            raise MemoryError
        accelerator.backward(model(torch.ones(batch_size, 4)).sum())
        optimizer.step()
    return accelerator.reduce(torch.ones(1)).item()

total = train()
sys.stdout.write(f"[{tried}, {total}]\\n")
"""


@pytest.mark.parametrize(("paradigm", "processes"), [("ddp", 2), ("ddp", 4), ("fsdp", 2)])
def test_processes_that_wait_are_called_back(launch, packed, tmp_path, paradigm, processes):
    """One that runs out of memory while others wait for it in a backward pass: all try the next sizes, several times."""
    (tmp_path / "script.py").write_text(TOGETHER)
    job = {"hardware": {"kind": "cpu", "per_node": processes}, "paradigm": {"kind": paradigm}}
    ended = launch(tmp_path / "script.py", processes=processes, JOBC_SPEC=packed(job))
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.splitlines() == [f"[[16, 8, 4], {processes:.1f}]"] * processes


def test_processes_that_cannot_be_called_back_are_told_why(launch, tmp_path):
    """In a group that the script opened itself the error ends the job, and says who, at which size and what to do."""
    text = "from torch import distributed\ndistributed.init_process_group('gloo')\n" + TOGETHER
    (tmp_path / "script.py").write_text(text)
    ended = launch(tmp_path / "script.py")
    assert ended.returncode == 1
    assert "MemoryError" in ended.stderr
    assert "rank 1 ran out of memory with batch size 16 while others waited for it in a collective" in ended.stderr
    assert "starting_batch_size=8" in ended.stderr
