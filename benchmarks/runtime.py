"""Time per step of a tiny training loop: `python benchmarks/runtime.py [ROUNDS]`.

Plain torch, jobc, Accelerate and Lightning Fabric take turns in one process (two processes: one world for each), so
that a machine that changes its speed changes all alike. Figures are medians over rounds; small models show overhead.
Accelerate does not shard on CPUs: there it takes its FSDP plugin and trains with DDP, so that row has no figure of it.
With a GPU, `benchmarks/gpu.py` is run too.
"""

from __future__ import annotations

import contextlib
import os
import statistics
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

STEPS = 200
BATCH = 8
WINDOW = 4
Turn = Callable[[], float]


def parts() -> tuple[Any, ...]:
    """The tiny model with its optimizer and schedule, and the data of one turn."""
    import torch
    from torch.utils.data import DataLoader, TensorDataset

    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(32, 32), torch.nn.ReLU(), torch.nn.Linear(32, 1))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda _step: 1.0)
    data = TensorDataset(torch.randn(STEPS * BATCH, 32), torch.randn(STEPS * BATCH, 1))
    return model, optimizer, schedule, DataLoader(data, batch_size=BATCH), torch.nn.functional.mse_loss


def plain(*, half: bool, ddp: bool) -> Turn:
    import torch
    from torch.nn.parallel import DistributedDataParallel
    from torch.utils.data import DataLoader, DistributedSampler

    model, optimizer, schedule, loader, loss_of = parts()
    if ddp:
        model = DistributedDataParallel(model)
        loader = DataLoader(loader.dataset, batch_size=BATCH, sampler=DistributedSampler(loader.dataset, shuffle=False))
    batches = list(loader)

    def turn() -> float:
        start = time.perf_counter()
        for inputs, targets in batches:
            with torch.autocast("cpu", torch.bfloat16) if half else contextlib.nullcontext():
                outputs = model(inputs)
            loss_of(outputs.float(), targets).backward()
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
        return (time.perf_counter() - start) / len(batches)

    return turn


def accelerated(kind: type, *, half: bool, **options: Any) -> Turn:
    """The loop that jobc and Accelerate share, but for where the class comes from."""
    model, optimizer, schedule, loader, loss_of = parts()
    accelerator = kind(mixed_precision="bf16" if half else "no", **options)
    batches = list(accelerator.prepare(loader))
    model, optimizer, schedule = accelerator.prepare(model, optimizer, schedule)

    def turn() -> float:
        start = time.perf_counter()
        for inputs, targets in batches:
            with accelerator.accumulate(model):
                loss = loss_of(model(inputs), targets)
                accelerator.backward(loss)
                optimizer.step()
                schedule.step()
                optimizer.zero_grad()
        return (time.perf_counter() - start) / len(batches)

    return turn


def sharded(name: str) -> Turn:
    """A step of a model that is cut in pieces over the processes."""
    import torch
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    if name == "jobc":
        from jobc import FullyShardedDataParallelPlugin

        return accelerated(_kind(name), half=False, cpu=True, fsdp_plugin=FullyShardedDataParallelPlugin())
    model, _, _, loader, loss_of = parts()
    fully_shard(model, mesh=init_device_mesh("cpu", (torch.distributed.get_world_size(),)))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda _step: 1.0)
    rank, size = torch.distributed.get_rank(), torch.distributed.get_world_size()
    batches = list(loader)[rank::size]

    def turn() -> float:
        start = time.perf_counter()
        for inputs, targets in batches:
            loss_of(model(inputs), targets).backward()
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
        return (time.perf_counter() - start) / len(batches)

    return turn


def accumulating(name: str) -> Turn:
    """A batch of a loop over the loader in which four batches make a step."""
    model, optimizer, schedule, loader, loss_of = parts()
    if name == "torch":
        return _accumulating_plainly(model, optimizer, schedule, loader, loss_of)
    kind = _kind(name) if name == "jobc" else _rival()
    accelerator = kind(cpu=True, gradient_accumulation_steps=WINDOW)
    model, optimizer, schedule, loader = accelerator.prepare(model, optimizer, schedule, loader)

    def turn() -> float:
        start = time.perf_counter()
        for inputs, targets in loader:
            with accelerator.accumulate(model):
                accelerator.backward(loss_of(model(inputs), targets))
                optimizer.step()
                schedule.step()
                optimizer.zero_grad()
        return (time.perf_counter() - start) / STEPS

    return turn


def _accumulating_plainly(model: Any, optimizer: Any, schedule: Any, loader: Any, loss_of: Any) -> Turn:
    def turn() -> float:
        start = time.perf_counter()
        for number, (inputs, targets) in enumerate(loader, start=1):
            (loss_of(model(inputs), targets) / WINDOW).backward()
            if number % WINDOW == 0:
                optimizer.step()
                schedule.step()
                optimizer.zero_grad()
        return (time.perf_counter() - start) / STEPS

    return turn


def fabric(*, half: bool, ddp: bool) -> Turn:
    from lightning_fabric import Fabric

    model, optimizer, schedule, loader, loss_of = parts()
    options = {"strategy": "ddp", "num_nodes": 1} if ddp else {}
    made = Fabric(accelerator="cpu", devices=2 if ddp else 1, precision="bf16-mixed" if half else "32-true", **options)
    made.launch()
    model, optimizer = made.setup(model, optimizer)
    batches = list(made.setup_dataloaders(loader))

    def turn() -> float:
        start = time.perf_counter()
        for inputs, targets in batches:
            made.backward(loss_of(model(inputs), targets))
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
        return (time.perf_counter() - start) / len(batches)

    return turn


def loading(name: str) -> Turn:
    """Data loading alone."""
    *_, loader, _ = parts()
    if name in ("jobc", "accelerate"):
        loader = _kind(name)(cpu=True).prepare(loader)
    elif name == "fabric":
        from lightning_fabric import Fabric

        loader = Fabric(accelerator="cpu", devices=1).setup_dataloaders(loader)

    def turn() -> float:
        start = time.perf_counter()
        for _batch in loader:
            pass
        return (time.perf_counter() - start) / STEPS

    return turn


def gathering(name: str) -> Turn:
    """`gather_for_metrics` of predictions and targets, within the loop over the loader that it needs."""
    *_, loader, _ = parts()
    accelerator = _kind(name)(cpu=True)
    loader = accelerator.prepare(loader)

    def turn() -> float:
        spent = 0.0
        for inputs, targets in loader:
            start = time.perf_counter()
            accelerator.gather_for_metrics((inputs, targets))
            spent += time.perf_counter() - start
        return spent / len(loader)

    return turn


def _kind(name: str) -> type:
    if name == "jobc":
        from jobc import Accelerator
    else:
        from accelerate import Accelerator
    return Accelerator


def turns(*, ddp: bool) -> Iterator[tuple[str, str, Turn]]:
    """(what, who, one turn) of everything that this world measures."""
    for half in (False, True):
        what = f"step, {'DDP on 2 processes' if ddp else '1 process'}{', bf16' if half else ''}"
        yield what, "torch", plain(half=half, ddp=ddp)
        yield what, "jobc", accelerated(_kind("jobc"), half=half, cpu=True)
        yield what, "accelerate", accelerated(_rival(), half=half, cpu=True)
        yield what, "fabric", fabric(half=half, ddp=ddp)
    if ddp:
        for name in ("torch", "jobc"):
            yield "step, FSDP on 2 processes", name, sharded(name)
        for name in ("jobc", "accelerate"):
            yield "gather_for_metrics, 2 processes", name, gathering(name)
    else:
        for name in ("torch", "jobc", "accelerate", "fabric"):
            yield "a batch from the loader", name, loading(name)
        for name in ("torch", "jobc", "accelerate"):
            yield "loader, 4 batches a step", name, accumulating(name)


def _rival() -> type:
    from accelerate import Accelerator
    from accelerate.state import AcceleratorState

    AcceleratorState._reset_state(reset_partial_state=True)  # else its first precision holds for ever  # noqa: SLF001
    return Accelerator


def measure(rounds: int, *, ddp: bool) -> None:
    """Prints `what | who | seconds` of the first process, a line each."""
    import torch

    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    if ddp:
        torch.distributed.init_process_group("gloo")  # one for all, who find it open
    taken: dict[tuple[str, str], list[float]] = {}
    running = [((what, who), turn) for what, who, turn in turns(ddp=ddp)]
    for number in range(rounds + 1):
        for key, turn in running:
            seconds = turn()
            if number:
                taken.setdefault(key, []).append(seconds)
    if os.environ.get("RANK", "0") == "0":
        for (what, who), values in taken.items():
            print(f"figure|{what}|{who}|{statistics.median(values)}")
    if torch.distributed.is_initialized():
        torch.distributed.barrier()
        torch.distributed.destroy_process_group()


def imports(rounds: int) -> dict[str, float]:
    """Seconds that a name's import takes in a fresh process."""
    lines = {
        "torch": "import torch",
        "jobc": "import torch; from jobc import Accelerator",
        "accelerate": "import torch; from accelerate import Accelerator",
        "fabric": "import torch; from lightning_fabric import Fabric",
    }
    taken: dict[str, list[float]] = {name: [] for name in lines}
    for number in range(rounds + 1):
        for name, line in lines.items():
            code = f"import time; s = time.perf_counter(); {line}; print(time.perf_counter() - s)"
            done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
            if number:
                taken[name].append(float(done.stdout))
    return {name: statistics.median(values) for name, values in taken.items()}


def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 15
    env = {**os.environ, "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "1"}
    env.pop("JOBC_SPEC", None)
    agent = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    figures: dict[str, dict[str, float]] = {}
    for start, kind in (([sys.executable], "alone"), (agent, "two")):
        done = subprocess.run(
            [*start, str(Path(__file__).resolve()), kind, str(rounds)],
            check=False,
            env=env,
            capture_output=True,
            text=True,
        )
        if done.returncode:
            sys.exit(done.stderr)
        for line in done.stdout.splitlines():
            if line.startswith("figure|"):
                _, what, who, seconds = line.split("|")
                figures.setdefault(what, {})[who] = float(seconds)
    print(f"median of {rounds} interleaved rounds of {STEPS} steps\n")
    print("| microseconds                     |   torch |    jobc | accelerate |  fabric | jobc / torch |")
    print("|:---------------------------------|--------:|--------:|-----------:|--------:|-------------:|")
    for what, row in figures.items():
        cells = [f"{row[who] * 1e6:.0f}" if who in row else "" for who in ("torch", "jobc", "accelerate", "fabric")]
        ratio = f"{row['jobc'] / row['torch']:.2f}" if "torch" in row else ""
        print(f"| {what:32} | {cells[0]:>7} | {cells[1]:>7} | {cells[2]:>10} | {cells[3]:>7} | {ratio:>12} |")
    found = imports(5)
    cells = [f"{found[who]:.2f}" for who in ("torch", "jobc", "accelerate", "fabric")]
    more = f"+{found['jobc'] - found['torch']:.2f}"
    print(
        f"| {'import, in seconds':32} | {cells[0]:>7} | {cells[1]:>7} | {cells[2]:>10} | {cells[3]:>7} | {more:>12} |"
    )
    print(flush=True)
    subprocess.run([sys.executable, str(Path(__file__).with_name("gpu.py"))], check=True)


if __name__ == "__main__":
    if len(sys.argv) == 3:
        measure(int(sys.argv[2]), ddp=sys.argv[1] == "two")
    else:
        main()
