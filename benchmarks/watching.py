"""What the watch over waiting processes costs a training step, and how soon it speaks.

`python benchmarks/watching.py [ROUNDS]`

Two processes each train a tiny model. The watch looks once a second, and what that costs is lost in the noise of any
machine; so turns without the watch and with one that looks a hundred times a second follow each other, forth and back.
A turn's figure is the median of blocks of steps, that of all the median over the rounds, with the limits between which
it lies with 95 % confidence. The time that the watch's own thread takes, looking once a second, is read from its clock.
"""

from __future__ import annotations

import math
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

OFTEN = 100  # looks a second, where the watch has one
BLOCK = 0.05  # seconds; there are five of those looks in it
BLOCKS = 30
REPORTS = 5
HANGS = """
import sys, time
import torch
from jobc import Accelerator

accelerator = Accelerator(cpu=True)
model = accelerator.prepare(torch.nn.Linear(4, 1))
accelerator.backward(model(torch.ones(2, 4)).sum())
accelerator.wait_for_everyone()
sys.stderr.write(f"now {time.time()}\\n")
if accelerator.is_main_process:
    accelerator.wait_for_everyone()
accelerator.backward(model(torch.ones(2, 4)).sum())
"""


def train(rounds: int) -> None:
    """One of the processes; the first one prints."""
    import torch
    from torch import distributed as dist

    rank = int(os.environ["RANK"])
    store = dist.TCPStore(os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"]), is_master=False)
    dist.init_process_group("gloo", store=dist.PrefixStore("watching", store), rank=rank, world_size=2)
    model = torch.nn.Sequential(torch.nn.Linear(32, 32), torch.nn.ReLU(), torch.nn.Linear(32, 1))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    inputs = torch.randn(8, 32)

    def block(steps: int) -> float:
        start = time.perf_counter()
        for _ in range(steps):
            model(inputs).square().mean().backward()
            optimizer.step()
            optimizer.zero_grad()
        return (time.perf_counter() - start) / steps

    block(200)
    steps = round(BLOCK / block(500))
    measured: dict[int, list[float]] = {0: [], OFTEN: []}
    shares: list[float] = []
    for _ in range(rounds):
        taken: dict[int, list[float]] = {0: [], OFTEN: []}
        for looks in (0, OFTEN, OFTEN, 0):
            leave = begin(store, rank, looks) if looks else lambda: None
            taken[looks] += [block(steps) for _ in range(BLOCKS)]
            leave()
            dist.barrier()
        for looks, seconds in taken.items():
            measured[looks].append(statistics.median(seconds))
        leave = begin(store, rank, 1)
        since = time.monotonic()
        for _ in range(2 * BLOCKS):
            block(steps)
        [thread] = [item for item in threading.enumerate() if item.name == "jobc-watch"]
        clock = time.pthread_getcpuclockid(thread.ident or 0)
        shares.append(time.clock_gettime(clock) / (time.monotonic() - since))
        leave()
    if rank == 0:
        more = [a / b - 1 for a, b in zip(measured[OFTEN], measured[0], strict=True)]
        middle, (low, high) = statistics.median(more), confidence(more)
        print(f"a step without the watch takes {statistics.median(measured[0]) * 1e6:.0f} us")
        for looks, what in ((OFTEN, f"{OFTEN} looks a second cost it"), (1, "the one that there is costs it")):
            share = looks / OFTEN
            print(f"{what} {middle * share:+.2%}, between {low * share:+.2%} and {high * share:+.2%}")
        print(f"the watch's thread took {statistics.median(shares):.3%} of a core")
    dist.destroy_process_group()


def begin(store: Any, rank: int, looks: int) -> Callable[[], None]:
    """Watches, with so many looks a second."""
    import torch
    from jobc.runtime.watching import watch

    watch._PAUSE = 1 / looks  # noqa: SLF001 - nobody else has a reason to change it
    return watch.begin(store, rank, 2, torch.device("cpu"))


def confidence(figures: list[float]) -> tuple[float, float]:
    """Between which of the figures their true median lies, 95 times of 100."""
    ordered, count = sorted(figures), len(figures)
    skipped = max(0, math.floor(count / 2 - 0.98 * math.sqrt(count)) - 1)
    return ordered[skipped], ordered[-1 - skipped]


def report(agent: list[str], env: dict[str, str]) -> float:
    """Seconds from a call that one process never makes to the finding about it."""
    with tempfile.TemporaryDirectory() as folder:
        script = Path(folder) / "train.py"
        script.write_text(HANGS)
        process = subprocess.Popen([*agent, str(script)], env=env, stderr=subprocess.PIPE, text=True)
        began = 0.0
        for line in process.stderr or ():
            if line.startswith("now "):
                began = max(began, float(line.split()[1]))
            if "error[J515]" in line:
                found = time.time() - began
                process.communicate()
                return found
    raise RuntimeError("nothing was reported")


def main() -> None:
    """Starts the two processes, or is one of them."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 10
    if "RANK" in os.environ:
        train(rounds)
        return
    agent = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    subprocess.run([*agent, str(Path(__file__)), str(rounds)], env=env, check=True)
    seconds = [report(agent, env) for _ in range(REPORTS)]
    print(f"reported after {min(seconds):.1f} to {max(seconds):.1f} s in {REPORTS} runs")


if __name__ == "__main__":
    main()
