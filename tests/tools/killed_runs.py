"""Counts trainings that go on after SIGKILL; run by hand, `tests/runtime` has a small spread of it.

python tests/tools/killed_runs.py steps      killed at every batch of a run of 60, in worlds of 1, 2 and 4
python tests/tools/killed_runs.py saving     killed at 300 random moments while checkpoints are written

Processes are forked from this one, which has imported torch, so that a start costs milliseconds.
"""

from __future__ import annotations

import itertools
import json
import os
import random
import shutil
import signal
import socket
import sys
import tempfile
import time
import traceback
from ast import literal_eval
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"
sys.path.insert(0, str(Path(__file__).parents[1] / "runtime" / "workers"))

import torch
import torch.distributed.checkpoint.default_planner
import torch.distributed.fsdp
import training_runs
from jobc.runtime.checkpoint import division, folders, verify  # noqa: F401 - division is imported once, here

torch.set_num_threads(1)
# What the first optimizer imports is imported here, once.
torch.optim.SGD([torch.zeros(1, requires_grad=True)])
SPEC = {"name": "killed", "workdir": "."}
BATCHES = 60
SIZES = {1: (4, 2), 2: (2, 2), 4: (2, 4)}  # processes; samples of a batch and epochs that make it so many batches
MOST = max(SIZES)


def spec(folder: Path, size: int, kind: str, **checkpoint: object) -> str:
    """A job's document in a file."""
    import msgspec
    from jobc.spec.model import Job
    from jobc.spec.resolved import ResolvedSpec
    from jobc.spec.tree import Origin

    training = {"gradient_accumulation": 3, "checkpoint": {"folder": str(folder / "checkpoints"), **checkpoint}}
    values = {"hardware": {"kind": "cpu", "per_node": size}, "paradigm": {"kind": kind}, "training": training}
    origin = Origin(layer="file", source="job.yaml", line=1, column=1)
    found = ResolvedSpec(job=msgspec.convert({**SPEC, **values}, Job), origins={"training.checkpoint.folder": origin})
    (folder / "spec.json").write_bytes(msgspec.json.encode(found.document()))
    return str(folder / "spec.json")


def start(size: int, environment: dict[str, str], action) -> list[int]:
    """Forks a world; the process ids by rank."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    pids = []
    for rank in range(size):
        pid = os.fork()
        if pid == 0:
            quiet = os.open(os.devnull, os.O_WRONLY)
            os.dup2(quiet, 2)
            os.environ.update(environment)
            if size > 1:
                meet = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": size, "LOCAL_WORLD_SIZE": size}
                os.environ.update({name: str(value) for name, value in meet.items()})
                os.environ.update({"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)})
            code = 1
            try:
                action()
                code = 0
            except BaseException:  # noqa: BLE001 - a forked process must not go on with what its parent does
                traceback.print_exc()
            finally:
                os._exit(code)
        pids.append(pid)
    return pids


def ended(pids: list[int]) -> list[int]:
    """Waits for a world, and ends it once one process of it has died; the exit codes."""
    left, codes = dict(enumerate(pids)), {}
    while left:
        for rank, pid in list(left.items()):
            found, status = os.waitpid(pid, os.WNOHANG)
            if found:
                codes[rank] = os.waitstatus_to_exitcode(status)
                del left[rank]
                if codes[rank]:
                    for other in left.values():
                        os.kill(other, signal.SIGKILL)
        time.sleep(0.005)
    return [codes[rank] for rank in range(len(pids))]


def training(write: Path, folder: Path, kill_at: int = 0, victim: int = 0, **options: object):
    """What a process does: trains, and the first one says what is left behind."""

    def action() -> None:
        write.mkdir(exist_ok=True)
        kill = kill_at if os.environ.get("RANK", "0") == str(victim) else 0
        run = training_runs.Run(training_runs.Options(folder, write=write, kill_at=kill, **options))
        left = run.train()
        if run.accelerator.is_main_process:
            (write / "left.txt").write_text(training_runs.digest(left))
        run.accelerator.end_training()

    return action


def seen(write: Path, size: int) -> list[dict[str, tuple]]:
    return [
        {number: literal_eval(rest) for number, rest in (line.split(" ", 1) for line in text.splitlines())}
        for text in ((write / f"rank{rank}.txt").read_text() for rank in range(size))
    ]


def steps(*only: str) -> None:
    """Every batch of every configuration, or of those whose first words are given: `2xfsdp`."""
    total = failed = 0
    for size, kind, stream, workers, later in itertools.product(
        SIZES, ("ddp", "fsdp"), (False, True), (0, 2), (False, True)
    ):
        # The writing has to do with no kind of data; workers of four processes are more than small machines have.
        if (size == 1 and kind == "fsdp") or (workers and size == MOST) or (later and (workers or stream)):
            continue
        paradigm = kind if size > 1 else "none"
        if only and f"{size}x{paradigm}" not in only:
            continue
        with tempfile.TemporaryDirectory() as name:
            wrong = every_batch(Path(name), size, paradigm, later=later, stream=stream, workers=workers)
        total, failed = total + BATCHES, failed + len(wrong)
        what = f"{size} x {paradigm:<5} {'stream' if stream else 'map':<6} workers {workers}"
        done = f"{BATCHES - len(wrong)} of {BATCHES}"
        print(f"{what} {'asynchronous' if later else 'synchronous':<12} {done}", *wrong, flush=True)
    print(f"{total - failed} of {total}")


def every_batch(base: Path, size: int, paradigm: str, *, later: bool, **options: object) -> list[int]:
    """The batches after a kill at which the run did not end as the one that was let alone."""
    batch_size, epochs = SIZES[size]
    common = {"batch_size": batch_size, "epochs": epochs, **options}
    alone = base / "alone"
    alone.mkdir()
    env = {"JOBC_SPEC": spec(alone, size, paradigm)}
    assert not any(ended(start(size, env, training(base / "whole", alone, **common))))
    left, whole = (base / "whole" / "left.txt").read_text(), seen(base / "whole", size)
    wrong = []
    for batch in range(1, BATCHES + 1):
        folder = base / f"killed{batch}"
        folder.mkdir()
        env = {"JOBC_SPEC": spec(folder, size, paradigm, every_steps=1, asynchronous=later, keep=3, resume="auto")}
        write, victim = folder / "seen", batch % size
        codes = ended(start(size, env, training(write, folder, kill_at=batch, victim=victim, **common)))
        assert -signal.SIGKILL in codes, codes
        codes = ended(start(size, env, training(write, folder, **common)))
        if any(codes) or (write / "left.txt").read_text() != left or seen(write, size) != whole:
            wrong.append(batch)
        shutil.rmtree(folder)
    return wrong


def saving(kills: str = "300") -> None:
    """Random moments, synchronous and asynchronous in turn; what is complete is whole, and the newest is found."""
    random.seed(5)
    none = bad = lost = loads = 0
    inside = 0
    count = int(kills)
    for number in range(count):
        later = bool(number % 2)
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            env = {"JOBC_SPEC": spec(folder, 1, "none", every_steps=1, asynchronous=later, keep=1, resume="auto")}
            pids = start(1, env, training(folder / "seen", folder, epochs=50))
            checkpoints = folder / "checkpoints"
            while folders.newest(checkpoints) is None:
                time.sleep(0.002)
            time.sleep(random.uniform(0, 0.5))
            os.kill(pids[0], signal.SIGKILL)
            os.waitpid(pids[0], 0)
            entries = folders.entries(checkpoints)
            inside += any(entry.unfinished for entry in entries)
            complete = [entry for entry in entries if entry.manifest is not None]
            none += not complete
            bad += sum(bool(verify.faults(entry.path, entry.manifest)) for entry in complete)
            lost += any(entry.manifest is None and not entry.unfinished for entry in entries)

            def resume(folder=folder, newest=complete[-1].manifest.step):
                run = training_runs.Run(training_runs.Options(folder))
                run.accelerator.epochs(1)
                assert run.accelerator.step == newest

            loads += ended(start(1, env, resume)) == [0]
    print(
        json.dumps(
            {
                "killed": count,
                "while one was being made": inside,
                "without a complete one": none,
                "complete ones that are damaged": bad,
                "half ones that look complete": lost,
                "resumed from the newest": loads,
            },
            indent=2,
        )
    )


if __name__ == "__main__":
    {"steps": steps, "saving": saving}[sys.argv[1]](*sys.argv[2:])
