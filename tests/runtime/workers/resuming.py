"""Checks that a training goes on from a checkpoint as if nothing had happened, in worlds of 1 and 2."""

import shutil
import tempfile
from contextlib import contextmanager
from pathlib import Path

import pytest
from common import job, refuses
from jobc import Accelerator
from torch import distributed
from training_runs import Options, Run, equal


@contextmanager
def folder():
    """A folder that all processes share, and that goes."""
    accelerator = Accelerator(cpu=True)
    path = tempfile.mkdtemp() if accelerator.is_main_process else None
    path = accelerator.gather([path])[0] if accelerator.use_distributed else path
    try:
        yield Path(path)
        accelerator.wait_for_everyone()
    finally:
        if accelerator.is_main_process:
            shutil.rmtree(path, ignore_errors=True)


def goes_on(points, tolerance=0.0, loose=(), **options):
    """Trains once, saving at some batches, and again from each of these; both leave the same behind."""
    with folder() as path:
        whole = Run(Options(path, save_at=points, **options))
        left = whole.train()
        for point in points:
            again = Run(Options(path, resume_from=path / f"batch-{point}", **options))
            # Another state, all of which has to be replaced.
            again.step(next(iter(again.loader)))
            found = again.train()
            here = tolerance if point in loose else 0.0
            try:
                assert equal(left, found, here)
                after = {number: line for number, line in whole.trace.items() if number > point}
                assert {number: ids for number, (ids, _) in again.trace.items() if number > point} == {
                    number: ids for number, (ids, _) in after.items()
                }
                for number, (_, loss) in after.items():
                    assert again.trace[number][1] == (pytest.approx(loss, rel=here, abs=here) if here else loss), number
            except AssertionError as error:
                raise AssertionError(f"from batch {point}: {error}") from error


def check_training_goes_on_bitwise_within_and_between_windows():
    size = Accelerator(cpu=True).num_processes
    batches = 2 * 120 // (4 * size)
    goes_on(tuple(sorted({1, 3, batches // 2 - 1, batches // 2, batches // 2 + 1, batches - 1, batches})))


def check_single_batches_and_streams_go_on_bitwise():
    goes_on((4, 11), accumulation=1)
    goes_on((4, 11), stream=True)


def check_sharded_training_goes_on_bitwise_between_windows_and_nearly_within():
    goes_on((2, 3, 6, 7), fsdp=True, tolerance=1e-6, loose=(2, 7))


def check_workers_draw_the_same_after_a_resume():
    goes_on((5,), workers=2)
    goes_on((5,), workers=2, stream=True)


def check_checkpoints_written_later_hold_the_same():
    with folder() as path, asynchronous(path):
        first = Run(Options(path, save_at=(4, 9)))
        left = first.train()
        first.accelerator._keeper.settle()
        first.accelerator.wait_for_everyone()
        last = Run(Options(path, resume_from=path / "batch-9"))
        assert equal(left, last.train())
        assert equal(left, Run(Options(path, resume_from=path / "batch-4")).train())


@contextmanager
def asynchronous(path, **block):
    """Within it Accelerators are those of a job that saves so."""
    size = distributed.get_world_size() if distributed.is_initialized() else 1
    block = {"folder": str(path), "asynchronous": True, **block}
    training = {"gradient_accumulation": 3, "checkpoint": block}
    paradigm = {"kind": "ddp" if size > 1 else "none"}
    hardware = {"kind": "cpu", "per_node": size}
    with job(hardware=hardware, paradigm=paradigm, training=training, explicit=("training.checkpoint.folder",)):
        yield


def check_job_saves_by_itself_and_goes_on_from_there():
    with folder() as path, asynchronous(path, every_steps=4, keep=2, resume="auto", asynchronous=False):
        whole = Run(Options(path))
        left = whole.train()
        whole.accelerator._keeper.settle()
        whole.accelerator.wait_for_everyone()
        kept = sorted(item.name for item in path.iterdir())
        steps = range(4, whole.accelerator.step + 1, 4)
        assert kept == [f"step-{number:08d}" for number in steps][-2:], kept
        again = Run(Options(path))
        assert equal(left, again.train())
        # A window never goes over the end of an epoch, so that batches before the last checkpoint are not all of three.
        assert len(again.trace) <= len(whole.trace) - steps[-1], kept


def check_job_saves_by_the_clock_in_all_processes_together():
    with folder() as path, asynchronous(path, every_minutes=1e-6, asynchronous=False):
        run = Run(Options(path, epochs=1))
        run.train()
        run.accelerator.wait_for_everyone()
        assert len(list(path.iterdir())) > 1


def check_script_that_does_not_resume_is_refused():
    with (
        folder() as path,
        asynchronous(path, resume="auto"),
        refuses("J526", "accelerator.epochs(total)", "load_state()"),
    ):
        run = Run(Options(path))
        run.step(next(iter(run.loader)))


def check_epochs_are_those_that_are_left():
    with folder() as path:
        run = Run(Options(path, epochs=3))
        assert list(run.accelerator.epochs(3)) == [0, 1, 2]
        run.train()
        assert (run.accelerator.epoch, list(run.accelerator.epochs(5))) == (3, [3, 4])
        assert run.accelerator.step == run.scheduler.scheduler.last_epoch // run.accelerator.num_processes


def check_loss_scales_and_token_counts_go_on():
    goes_on((3, 7), project={"mixed_precision": "fp16"})
    goes_on((2, 7), tokens=True)
