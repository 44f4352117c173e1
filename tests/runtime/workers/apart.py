"""Checks of what would train each process apart, or put together what does not fit, in a world of two."""

import pytest
import torch
from common import Accelerator, job, loader, model, refuses
from torch import nn
from torch.optim import SGD


def trained(accelerator, lr=0.1):
    plain = model()
    return accelerator.prepare(plain, SGD(plain.parameters(), lr=lr))


def check_a_step_after_a_pass_through_the_module_inside_is_refused():
    accelerator = Accelerator()
    for inner in (accelerator.unwrap_model, lambda ready: ready.module, lambda ready: nn.Sequential(*ready.module)):
        for before in (0, 2):
            ready, optimizer = trained(accelerator)
            for _ in range(before):
                accelerator.backward(ready(torch.ones(2, 4)).sum())
                optimizer.step()
                optimizer.zero_grad()
            accelerator.backward(inner(ready)(torch.ones(2, 4)).sum())
            with refuses("J517", "Sequential", "this process alone", "apart.py", "optimizer.step()"):
                optimizer.step()


def check_the_same_in_a_window_and_in_fp16_is_refused():
    for keywords, batches in (({"gradient_accumulation_steps": 2}, 2), ({"mixed_precision": "fp16"}, 1)):
        accelerator = Accelerator(**keywords)
        ready, optimizer = trained(accelerator)
        for _ in range(batches):
            with accelerator.accumulate(ready):
                accelerator.backward(accelerator.unwrap_model(ready)(torch.ones(2, 4)).sum() / 100)
        with refuses("J517"):
            optimizer.step()


def check_several_optimizers_and_models_may_take_turns():
    accelerator = Accelerator()
    one, first = trained(accelerator)
    two = accelerator.prepare(model(seed=2))
    second, both = accelerator.prepare(SGD(two.parameters(), lr=0.1), SGD([*one.parameters(), *two.parameters()], 0.1))
    for number in range(4):
        made = one(torch.ones(2, 4))
        if number % 2:  # the other model takes no part in this step, and its optimizers nevertheless step
            accelerator.backward(made.sum())
        else:
            accelerator.backward(two(torch.cat([made] * 4, 1)).sum())
        for optimizer in (first, second, both):
            optimizer.step()
        first.zero_grad()
        second.zero_grad()


def check_evaluation_and_own_ways_are_left_alone():
    accelerator = Accelerator()
    ready, optimizer = trained(accelerator)
    optimizer.step()  # there is nothing to step with
    for _ in range(2):
        with accelerator.no_sync(ready):
            accelerator.backward(ready(torch.ones(2, 4)).sum())
        with torch.no_grad():
            accelerator.unwrap_model(ready)(torch.ones(2, 4))
        optimizer.step()
    assert repr(ready).startswith("DistributedDataParallel(")


def check_parameters_that_take_no_part_are_said_in_words_of_the_job():
    class Half(nn.Module):
        def __init__(self):
            super().__init__()
            self.used, self.unused = nn.Linear(4, 1), nn.Linear(4, 1)

        def forward(self, inputs):
            return self.used(inputs)

    accelerator = Accelerator()
    ready = accelerator.prepare(Half())
    accelerator.backward(ready(torch.ones(2, 4)).sum())
    with pytest.raises(RuntimeError) as raised:
        ready(torch.ones(2, 4))
    assert "paradigm.find_unused_parameters: true" in raised.value.__notes__[0]
    with job(paradigm={"kind": "ddp", "find_unused_parameters": True}):
        accelerator = Accelerator()
        ready = accelerator.prepare(Half())
        for _ in range(2):
            accelerator.backward(ready(torch.ones(2, 4)).sum())


def check_tensors_that_do_not_fit_are_named():
    accelerator = Accelerator()
    here = accelerator.process_index
    for length in (3, 5000):  # what travels with the first message, and what does not
        with refuses("J519", f"float32[2, {length}] in rank 0", f"float32[2, {length + 1}] in rank 1", "dim=1"):
            accelerator.gather({"x": torch.ones(2, length + here)})
        padded = accelerator.pad_across_processes(torch.ones(2, length + here), dim=1)
        assert accelerator.gather(padded).shape == (4, length + 1)
    with refuses("J519", "float32[2] in rank", "float64[2] in rank", "one type"):
        accelerator.gather(torch.ones(2, dtype=torch.float64 if here else torch.float32))
    with refuses("J519", "[1, 2] in all"):
        accelerator.gather([torch.ones(1)] * (1 + here))
    for length in (3, 50_000):
        with refuses("J519", f"float32[{length}] in rank 0", f"float32[{length + 1}] in rank 1", "apart.py"):
            accelerator.reduce({"x": torch.ones(length + here)})
        assert accelerator.reduce(torch.full((length,), 1.0 + here), "mean").tolist() == [1.5] * length
    with refuses("J519", "float32[2] in rank", "int64[2] in rank", "one type"):
        accelerator.reduce(torch.ones(2, dtype=torch.int64 if here else torch.float32))
    ready = accelerator.prepare(loader(8, 2))
    for batch in ready:
        with refuses("J519", "int64[2, 2] in rank 0", "pad_across_processes"):
            accelerator.gather_for_metrics((batch["number"].repeat(1, 1 + here), batch["id"]))
        assert len(accelerator.gather_for_metrics(batch["id"])) == 4


def check_tensors_come_back_in_and_out_of_inference_mode():
    accelerator = Accelerator()
    here = accelerator.process_index
    for mode in (True, False, True):
        with torch.inference_mode(mode):
            value = torch.full((2, 13), here + 0.5)
            found = accelerator.gather(value), accelerator.reduce(value)
        assert found[0].tolist() == [[0.5] * 13] * 2 + [[1.5] * 13] * 2
        assert found[1].tolist() == [[2.0] * 13] * 2
    trained = torch.ones(2, requires_grad=True)
    assert not accelerator.gather(trained * 2).requires_grad
    assert accelerator.reduce(trained).tolist() == [2.0, 2.0]
    kept = accelerator.gather(torch.tensor([1.0 + here]))
    accelerator.gather(torch.tensor([3.0]))
    assert kept.tolist() == [1.0, 2.0]


def check_tensors_of_any_size_and_type_come_back():
    accelerator = Accelerator()
    here = accelerator.process_index
    for count in (0, 1, 7, 300, 9000, 300, 200_000, 1):
        value = {
            "half": torch.full((count,), here, dtype=torch.bfloat16),
            "truth": torch.full((count, 1), bool(here)),
            "turned": torch.arange(2.0 * count).reshape(2, count).T + here,
            "text": ["a"] * count,
        }
        found = accelerator.gather(value)
        assert found["half"].tolist() == [0.0] * count + [1.0] * count
        assert found["truth"].tolist() == [[False]] * count + [[True]] * count
        assert torch.equal(found["turned"], torch.cat([value["turned"] - here, value["turned"] - here + 1]))
        assert found["text"] == ["a"] * 2 * count
