"""Checks of what would train each process apart, or put together what does not fit, in a world of two."""

import pytest
import torch
from common import Accelerator, job, model, refuses
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
