"""What the watch over waiting processes costs a training step, and how soon it speaks.

`python benchmarks/watching.py [ROUNDS]`

Two processes train a tiny model under DistributedDataParallel over gloo. A round has four turns of two seconds in the
same world, without the watch, with it, with it and without, so that a machine that changes its speed changes both
alike. Of the rounds' ratios the median is told, and between what it lies with 95 % confidence. Processor time is that
of all threads of a process; waiting for a core is no part of it. The time that the watch's own thread takes is read
from its clock.
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
from pathlib import Path

SECONDS = 2.0
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
    from jobc.runtime.watching import watch
    from torch import distributed as dist
    from torch.nn.parallel import DistributedDataParallel

    rank = int(os.environ["RANK"])
    store = dist.TCPStore(os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"]), is_master=False)
    dist.init_process_group("gloo", store=dist.PrefixStore("watching", store), rank=rank, world_size=2)
    model = torch.nn.Sequential(torch.nn.Linear(32, 32), torch.nn.ReLU(), torch.nn.Linear(32, 1))
    model = DistributedDataParallel(model)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    inputs = torch.randn(8, 32)

    def turn(steps: int) -> tuple[float, float]:
        """The time of a step, and the processor's time."""
        start, used = time.perf_counter(), time.process_time()
        for _ in range(steps):
            model(inputs).square().mean().backward()
            optimizer.step()
            optimizer.zero_grad()
        return (time.perf_counter() - start) / steps, (time.process_time() - used) / steps

    turn(200)
    steps = torch.tensor([round(SECONDS / turn(500)[0])])
    dist.broadcast(steps, 0)
    rounds_of: dict[bool, list[tuple[float, float]]] = {False: [], True: []}
    shares: list[float] = []
    for _ in range(rounds):
        taken = {False: [0.0, 0.0], True: [0.0, 0.0]}
        for watched in (False, True, True, False):
            leave = watch.begin(store, rank, 2, torch.device("cpu")) if watched else lambda: None
            since = time.monotonic()
            taken[watched] = [a + b for a, b in zip(taken[watched], turn(int(steps)), strict=True)]
            if watched:
                [thread] = [item for item in threading.enumerate() if item.name == "jobc-watch"]
                clock = time.pthread_getcpuclockid(thread.ident or 0)
                shares.append(time.clock_gettime(clock) / (time.monotonic() - since))
            leave()
        for watched, (wall, processor) in taken.items():
            rounds_of[watched].append((wall / 2, processor / 2))
    if rank == 0:
        for place, what in enumerate(("time", "processor time")):
            on, off = ([figures[place] for figures in rounds_of[watched]] for watched in (True, False))
            ratios = [a / b - 1 for a, b in zip(on, off, strict=True)]
            low, high = confidence(ratios)
            print(
                f"{what} of a step with the watch {statistics.median(on) * 1e6:.1f} us, without"
                f" {statistics.median(off) * 1e6:.1f} us; {statistics.median(ratios):+.2%} in the median of {rounds}"
                f" rounds, between {low:+.2%} and {high:+.2%}"
            )
        print(f"the watch's thread took {statistics.median(shares):.3%} of a core")
    dist.destroy_process_group()


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
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 20
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
