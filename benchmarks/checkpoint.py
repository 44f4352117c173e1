"""How long a checkpoint stops a training, and how long going on takes: `python benchmarks/checkpoint.py [ROUNDS]`.

50 million parameters with AdamW, 600 MB, one process. Every way of saving takes its turn in each round, so that a disk
that changes its speed changes all alike; figures are medians. `--step` is what the starts measure.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sys
import tempfile
import time
import warnings
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from _timing import interleaved, until_line

WIDTH, LAYERS = 2048, 12


def parts() -> tuple[Any, Any]:
    """The model and its optimizer."""
    import torch

    torch.manual_seed(0)
    model = torch.nn.Sequential(*(torch.nn.Linear(WIDTH, WIDTH) for _ in range(LAYERS)))
    return model, torch.optim.AdamW(model.parameters(), lr=1e-4)


def step(accelerator: Any, model: Any, optimizer: Any) -> None:
    import torch

    accelerator.backward(model(torch.ones(1, WIDTH)).sum())
    optimizer.step()
    optimizer.zero_grad()


def job(folder: Path, **checkpoint: object) -> None:
    """Makes this process that of a job."""
    import jobc

    (folder / "train.py").touch()
    training = {"checkpoint": {"folder": str(folder / "checkpoints"), **checkpoint}}
    file = folder / "job.yaml"
    file.write_text(json.dumps({"script": "train.py", "hardware": "cpu", "training": training}))
    (folder / "spec.json").write_text(json.dumps(jobc.load(file).document()))
    os.environ["JOBC_SPEC"] = str(folder / "spec.json")


def ours(folder: Path, **checkpoint: object) -> tuple[Any, Any, Any]:
    from jobc import Accelerator

    folder.mkdir()
    job(folder, **checkpoint)
    accelerator = Accelerator()
    del os.environ["JOBC_SPEC"]
    model, optimizer = accelerator.prepare(*parts())
    step(accelerator, model, optimizer)
    return accelerator, model, optimizer


def timed(action: Callable[[], object], after: Callable[[], object] = lambda: None) -> Callable[[], float]:
    """The time of an action; what comes after it does not count."""

    def measure() -> float:
        os.sync()
        start = time.perf_counter()
        action()
        taken = time.perf_counter() - start
        after()
        return taken

    return measure


def saving(folder: Path) -> dict[str, Callable[[], float]]:
    import accelerate
    import torch
    import torch.distributed.checkpoint as dcp

    sync, *_ = ours(folder / "sync", keep=1)
    later, *_ = ours(folder / "later", keep=1, asynchronous=True)
    rival = accelerate.Accelerator(cpu=True)
    model, optimizer = rival.prepare(*parts())
    step(rival, model, optimizer)
    kept: list[Any] = []

    def copy() -> None:
        kept.append([value.clone() for value in model.state_dict().values()])
        kept.append([value.clone() for item in optimizer.state.values() for value in item.values()])

    def torch_save() -> None:
        state = {"model": model.state_dict(), "optimizer": optimizer.state_dict()}
        kept.append(dcp.async_save(state, checkpoint_id=folder / "torch"))

    def finish() -> None:
        for item in kept:
            if hasattr(item, "result"):
                item.result()
        kept.clear()
        shutil.rmtree(folder / "torch", ignore_errors=True)

    def again() -> None:
        shutil.rmtree(folder / "rival")

    def load(accelerator: Any, name: str | None) -> Callable[[], None]:
        return lambda: accelerator.load_state(*([] if name is None else [folder / name]))

    rival.save_state(folder / "loaded")
    os.environ["OMP_NUM_THREADS"] = str(torch.get_num_threads())
    return {
        "one copy in memory": timed(copy, kept.clear),
        "save, jobc": timed(sync.save_state),
        "save, jobc, asynchronous": timed(later.save_state, later.end_training),
        "save, Accelerate": timed(lambda: rival.save_state(folder / "rival"), again),
        "save, torch's async_save": timed(torch_save, finish),
        "load, jobc": timed(load(sync, None)),
        "load, Accelerate": timed(load(rival, "loaded")),
    }


def checksums(folder: Path) -> dict[str, Callable[[], float]]:
    """All files of a checkpoint in four threads: jobc's sums, and what hashes of every byte would cost."""
    from jobc.runtime.checkpoint import tensors

    files = [path for path in (folder / "sync").rglob("*") if path.is_file()]

    def all_of(action: Callable[[Path], object]) -> Callable[[], float]:
        def run() -> None:
            with ThreadPoolExecutor(4) as pool:
                list(pool.map(action, files))

        return timed(run)

    def sha256(path: Path) -> str:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()

    def crc32(path: Path) -> int:
        found = 0
        with path.open("rb") as file:
            for block in iter(lambda: file.read(1 << 20), b""):
                found = zlib.crc32(block, found)
        return found

    return {
        "checksums, jobc": all_of(tensors.describe),
        "checksums, CRC-32": all_of(crc32),
        "checksums, SHA-256": all_of(sha256),
    }


def starts(folder: Path) -> dict[str, Callable[[], float]]:
    """From the start of a process to the end of its first step, from nothing and from a checkpoint."""
    saved = folder / "sync"
    command = [sys.executable, __file__, "--step"]
    return {
        "first step, from nothing": lambda: until_line(command, "stepped at"),
        "first step, from a checkpoint": lambda: until_line([*command, str(saved)], "stepped at"),
    }


def first_step(saved: str | None) -> None:
    from jobc import Accelerator

    accelerator = Accelerator(cpu=True, project_dir=saved)
    model, optimizer = accelerator.prepare(*parts())
    if saved is not None:
        accelerator.load_state()
    step(accelerator, model, optimizer)
    print(f"stepped at {time.time()}")


def main() -> None:
    """Prints the figures."""
    if sys.argv[1:2] == ["--step"]:
        first_step(sys.argv[2] if len(sys.argv) > 2 else None)
        return
    warnings.simplefilter("ignore")
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    with tempfile.TemporaryDirectory(prefix="jobc-checkpoint-") as name:
        folder = Path(name)
        found = interleaved(saving(folder), rounds)
        found |= interleaved(checksums(folder), rounds) | interleaved(starts(folder), rounds)
    for what, seconds in found.items():
        print(f"{what:<32}{seconds:7.2f} s")


if __name__ == "__main__":
    main()
