"""Checks of training steps in a world of two."""

import contextlib
import io
import warnings

import torch
from common import Accelerator, Stream, data, job, model, same
from jobc import DataLoaderConfiguration, DistributedDataParallelKwargs
from torch import nn
from torch.nn.functional import mse_loss
from torch.nn.parallel import DistributedDataParallel
from torch.optim.lr_scheduler import LambdaLR, OneCycleLR, ReduceLROnPlateau
from torch.utils.data import DataLoader


def train(batch_size, steps=1, count=32, epochs=2, **keywords):
    """A model trained through the Accelerator."""
    accelerator = Accelerator(gradient_accumulation_steps=steps, **keywords)
    plain = model()
    optimizer = torch.optim.SGD(plain.parameters(), lr=0.05, momentum=0.9)
    loader = DataLoader(data(count), batch_size=batch_size)
    ready, optimizer, loader = accelerator.prepare(plain, optimizer, loader)
    for _ in range(epochs):
        for inputs, targets in loader:
            with accelerator.accumulate(ready):
                accelerator.backward(mse_loss(ready(inputs), targets))
                optimizer.step()
                optimizer.zero_grad()
    return accelerator.unwrap_model(ready)


def train_plainly(windows, epochs=2):
    """The same model trained in one process; a window is the list of batches of one step, as slices of the data."""
    inputs, targets = data(max(piece.stop for window in windows for piece in window)).tensors
    plain = model()
    optimizer = torch.optim.SGD(plain.parameters(), lr=0.05, momentum=0.9)
    for _ in range(epochs):
        for window in windows:
            optimizer.zero_grad()
            for piece in window:
                (mse_loss(plain(inputs[piece]), targets[piece]) / len(window)).backward()
            optimizer.step()
    return plain


def check_two_processes_equal_one_with_the_same_global_batch():
    windows = [[slice(start, start + 8)] for start in range(0, 32, 8)]
    assert same(train(4), train_plainly(windows), 1e-6)


def check_two_processes_equal_plain_ddp_bitwise():
    ours = train(4)
    rank = Accelerator().process_index
    inputs, targets = data(32).tensors
    plain = DistributedDataParallel(model())
    optimizer = torch.optim.SGD(plain.parameters(), lr=0.05, momentum=0.9)
    for _ in range(2):
        for start in range(4 * rank, 32, 8):
            mse_loss(plain(inputs[start : start + 4]), targets[start : start + 4]).backward()
            optimizer.step()
            optimizer.zero_grad()
    assert same(ours, plain.module)


def check_accumulation_equals_plain_ddp_without_sync_bitwise():
    ours = train(4, steps=2)
    rank = Accelerator().process_index
    inputs, targets = data(32).tensors
    plain = DistributedDataParallel(model())
    optimizer = torch.optim.SGD(plain.parameters(), lr=0.05, momentum=0.9)
    for _ in range(2):
        for number, start in enumerate(range(4 * rank, 32, 8)):
            with plain.no_sync() if number % 2 == 0 else contextlib.nullcontext():
                (mse_loss(plain(inputs[start : start + 4]), targets[start : start + 4]) / 2).backward()
            if number % 2 == 1:
                optimizer.step()
                optimizer.zero_grad()
    assert same(ours, plain.module)


def check_accumulation_is_the_same_in_every_split():
    whole = train(16)
    assert same(whole, train(8, steps=2), 1e-6)
    assert same(whole, train(4, steps=4), 1e-6)
    assert same(whole, train(16, steps=2, split_batches=True), 1e-6)


def check_the_last_partial_window_is_divided_by_its_length():
    # 5 batches in each process: windows of 2, 2 and 1.
    pieces = [slice(start, start + 4) for start in range(0, 40, 4)]
    assert same(train(4, steps=2, count=40), train_plainly([pieces[0:4], pieces[4:8], pieces[8:10]]), 1e-6)
    # A window longer than the data.
    assert same(train(4, steps=100, count=40), train_plainly([pieces]), 1e-6)


def check_the_last_partial_window_of_a_stream_is_divided_by_its_length():
    for count, steps, expected in ((10, 2, [10, 10, 10]), (12, 4, [10, 10]), (2, 7, [10])):
        accelerator = Accelerator(gradient_accumulation_steps=steps)
        line = nn.Linear(1, 1, bias=False)
        seen = []
        line, optimizer, loader = accelerator.prepare(
            line, torch.optim.SGD(line.parameters(), lr=0), DataLoader(Stream(count), batch_size=1)
        )
        for batch in loader:
            with accelerator.accumulate(line):
                accelerator.backward((line(batch) * 0 + line.module.weight * 10).mean())
                if accelerator.sync_gradients:
                    seen.append(line.module.weight.grad.item())
                optimizer.step()
                optimizer.zero_grad()
        assert [round(value, 5) for value in seen] == expected, (count, steps, seen)


def check_windows_are_those_that_all_processes_can_fill():
    # 7 batches: the first process has 4, the second one 3, so windows are of 2, 1, and one that is not shared.
    ones = [torch.ones(1)] * 7
    samplers = (
        lambda: None,
        lambda: [[number] for number in range(7)],
        lambda: iter([[number] for number in range(7)]),
    )
    for make in samplers:
        for dispatch in (False, True):
            config = DataLoaderConfiguration(even_batches=False, dispatch_batches=dispatch)
            accelerator = Accelerator(gradient_accumulation_steps=2, dataloader_config=config)
            line, ready = accelerator.prepare(nn.Linear(1, 1, bias=False), DataLoader(ones, batch_sampler=make()))
            synced, gradients = [], []
            with accelerator.join_uneven_inputs([line]):
                for batch in ready:
                    with accelerator.accumulate(line):
                        accelerator.backward((line(batch) * 0 + line.module.weight * 10).mean())
                        synced.append(accelerator.sync_gradients)
                    if accelerator.sync_gradients:
                        gradients.append(round(line.module.weight.grad.item(), 5))
                        line.zero_grad()
            assert synced == [False, True, True] + [True] * accelerator.is_main_process, (dispatch, synced)
            assert gradients[:2] == [10, 10], gradients


def check_generators_are_shared_when_an_epoch_begins():
    for kinds, shared in ((["torch", "cuda", "generator"], True), (["generator"], False), (None, False)):
        accelerator = Accelerator(rng_types=kinds)
        torch.manual_seed(accelerator.process_index)
        for batch in accelerator.prepare(DataLoader(range(4))):
            drawn = accelerator.gather(torch.rand(1))
            assert (drawn[0] == drawn[1]).item() is shared, kinds
            del batch
            break


def check_a_window_left_open_goes_on_in_the_next_epoch():
    accelerator = Accelerator(gradient_accumulation_steps=3)
    line = nn.Linear(4, 1)
    line, optimizer, loader = accelerator.prepare(
        line, torch.optim.SGD(line.parameters()), DataLoader(data(32), batch_size=2)
    )
    synced = []
    for _ in range(3):
        for number, (inputs, _targets) in enumerate(loader):
            if number == 2:
                break
            with accelerator.accumulate(line):
                accelerator.backward(line(inputs).mean())
                synced.append(accelerator.sync_gradients)
                optimizer.step()
                optimizer.zero_grad()
    assert synced == [False, False, True, False, False, True]


def check_a_nested_evaluation_leaves_the_window_alone():
    accelerator = Accelerator(gradient_accumulation_steps=2)
    line = nn.Linear(4, 1)
    line, loader, other = accelerator.prepare(
        line, DataLoader(data(24), batch_size=4), DataLoader(data(5), batch_size=4)
    )
    synced = []
    for inputs, _targets in loader:
        with accelerator.accumulate(line):
            accelerator.backward(line(inputs).mean())
            synced.append(accelerator.sync_gradients)
        for scans, _ in other:
            assert len(accelerator.gather_for_metrics(scans)) == 5
        assert len(accelerator.gather_for_metrics(inputs)) == 8
    assert synced == [False, True, True]


def check_backward_outside_of_accumulate_divides_by_the_steps():
    accelerator = Accelerator(gradient_accumulation_steps=4)
    line = accelerator.prepare(nn.Linear(1, 1, bias=False))
    accelerator.backward(line(torch.ones(1, 1)).sum())
    assert line.module.weight.grad.item() == 0.25


def check_fp16_overflow_in_one_process_skips_the_step_in_all():
    accelerator = Accelerator(mixed_precision="fp16")
    plain = model()
    optimizer = torch.optim.SGD(plain.parameters(), lr=0.1)
    scheduler = LambdaLR(optimizer, lambda step: 0.5**step)
    ready, optimizer, scheduler = accelerator.prepare(plain, optimizer, scheduler)
    before = [parameter.detach().clone() for parameter in plain.parameters()]
    for overflow in (True, False):
        inputs = torch.ones(2, 4)
        output = ready(inputs)
        assert output.dtype == torch.float32
        loss = output.mean() * (float("inf") if overflow and accelerator.process_index == 1 else 1.0)
        accelerator.backward(loss)
        norm = accelerator.clip_grad_norm_(ready.parameters(), 0.5)
        optimizer.step()
        scheduler.step()
        optimizer.zero_grad()
        assert accelerator.optimizer_step_was_skipped is overflow
        assert torch.isfinite(norm).item() is not overflow
        assert same(before, plain) is overflow
        assert scheduler.get_last_lr() == [0.1 if overflow else 0.025]


def check_clipping_waits_for_the_whole_window():
    accelerator = Accelerator(gradient_accumulation_steps=2)
    line = accelerator.prepare(nn.Linear(1, 1, bias=False))
    for number in range(2):
        with accelerator.accumulate(line):
            accelerator.backward(line(torch.full((1, 1), 8.0)).sum())
            norm = accelerator.clip_grad_norm_(line.parameters(), 1.0)
            assert norm.item() == (4.0, 8.0)[number]
            assert abs(line.module.weight.grad.item() - (4.0, 1.0)[number]) < 1e-5


def rates(scheduler_of, calls=2, **keywords):
    """The learning rate after some steps."""
    accelerator = Accelerator(**keywords)
    plain = model()
    optimizer = torch.optim.SGD(plain.parameters(), lr=1.0)
    scheduler = scheduler_of(optimizer)
    text = io.StringIO()
    with contextlib.redirect_stderr(text):
        ready, optimizer, scheduler = accelerator.prepare(plain, optimizer, scheduler)
    for _ in range(calls):
        with accelerator.accumulate(ready):
            accelerator.backward(ready(torch.ones(2, 4)).mean())
            optimizer.step()
            scheduler.step()
            optimizer.zero_grad()
    hinted = "J307" in text.getvalue()
    assert hinted is False or accelerator.is_main_process
    return optimizer.param_groups[0]["lr"], accelerator.reduce(torch.tensor(int(hinted))).item()


def halving(optimizer):
    return LambdaLR(optimizer, lambda step: 0.5**step)


def check_scheduler_moves_once_for_every_process_and_says_so():
    assert rates(halving) == (0.5**4, 1)
    assert rates(halving, gradient_accumulation_steps=2) == (0.5**2, 1)


def check_scheduler_moves_once_with_split_batches():
    assert rates(halving, split_batches=True) == (0.5**2, 0)


def check_scheduler_moves_at_every_call_when_asked():
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Detected call of")  # torch sees that no optimizer step came before
        assert rates(halving, gradient_accumulation_steps=2, step_scheduler_with_optimizer=False) == (0.5**2, 0)
        assert rates(halving, gradient_accumulation_steps=2, step_with_optimizer=False) == (0.5**2, 0)


def check_scheduler_follows_the_job():
    one, many = {"scheduler": {"step": "optimizer_step"}}, {"scheduler": {"step": "per_process"}}
    with job(training=one, explicit=["training.scheduler.step"]):
        assert rates(halving) == (0.5**2, 0)
        assert rates(halving, gradient_accumulation_steps=2) == (0.5, 0)
    with job(training=many, explicit=["training.scheduler.step"]):
        assert rates(halving) == (0.5**4, 0)


def check_scheduler_of_known_length_stops_at_its_end():
    rate, _ = rates(lambda optimizer: OneCycleLR(optimizer, max_lr=1.0, total_steps=5), calls=5)
    assert rate < 1e-3


def check_plateau_scheduler_moves_once_for_each_metric():
    accelerator = Accelerator()
    plain = model()
    optimizer = torch.optim.SGD(plain.parameters(), lr=1.0)
    text = io.StringIO()
    with contextlib.redirect_stderr(text):
        plain, optimizer, scheduler = accelerator.prepare(
            plain, optimizer, ReduceLROnPlateau(optimizer, factor=0.5, patience=1)
        )
    assert "J307" not in text.getvalue()
    for _ in range(3):
        scheduler.step(1.0)
    assert scheduler.get_last_lr() == [0.5]


def check_ddp_options_come_from_the_job():
    with job(paradigm={"kind": "ddp", "find_unused_parameters": True, "bucket_size_mb": 3}):
        ready = Accelerator().prepare(model())
    assert ready.find_unused_parameters
    assert ready.bucket_bytes_cap == 3 * 1024 * 1024


def means(**keywords):
    """The running mean that this process's BatchNorm has when it is prepared, and after two forward passes."""
    accelerator = Accelerator(**keywords)
    plain = nn.Sequential(nn.BatchNorm1d(2), nn.Linear(2, 1))
    plain[0].running_mean.fill_(float(accelerator.process_index))
    ready = accelerator.prepare(plain)
    start = plain[0].running_mean[0].item()
    for _ in range(2):
        ready(torch.ones(4, 2) * (1 + accelerator.process_index))
    return start, accelerator.gather(plain[0].running_mean[:1]).tolist()


def check_buffers_are_the_first_processes_or_their_own():
    # A mean moves a tenth of the way to that of the batch; processes have batches of ones and of twos.
    start, (first, second) = means()
    assert (start, round(first, 4), round(second, 4)) == (0.0, 0.19, 0.29)
    apart = DistributedDataParallelKwargs(broadcast_buffers=False)
    start, (first, second) = means(kwargs_handlers=[apart])
    assert (start, round(first, 4), round(second, 4)) == (0.0, 0.19, 0.38)
    with job(paradigm={"kind": "ddp", "broadcast_buffers": False}, explicit=["paradigm.broadcast_buffers"]):
        assert round(means()[1][1], 4) == 0.38
        same_word = DistributedDataParallelKwargs(broadcast_buffers=False)
        assert round(means(kwargs_handlers=[same_word])[1][1], 4) == 0.38


def check_a_model_without_gradients_is_not_wrapped():
    frozen = model().requires_grad_(requires_grad=False)
    assert Accelerator().prepare(frozen) is frozen
