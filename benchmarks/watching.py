"""What the watch over waiting processes costs a training step, and how soon it speaks.

`python benchmarks/watching.py [ROUNDS]`

Two processes train a tiny model under DistributedDataParallel over gloo. Turns of two seconds with the watch and
without it follow each other in the same world, so that a machine that changes its speed changes both alike. The time
that the watch's own thread takes on a core is read from its clock, which is the figure that noise cannot reach.
"""

from __future__ import annotations

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
    from jobc.runtime import watch
    from torch import distributed as dist
    from torch.nn.parallel import DistributedDataParallel

    rank = int(os.environ["RANK"])
    store = dist.TCPStore(os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"]), is_master=False)
    dist.init_process_group("gloo", store=dist.PrefixStore("watching", store), rank=rank, world_size=2)
    model = torch.nn.Sequential(torch.nn.Linear(32, 32), torch.nn.ReLU(), torch.nn.Linear(32, 1))
    model = DistributedDataParallel(model)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    inputs = torch.randn(8, 32)

    def turn(steps: int) -> float:
        start = time.perf_counter()
        for _ in range(steps):
            model(inputs).square().mean().backward()
            optimizer.step()
            optimizer.zero_grad()
        return (time.perf_counter() - start) / steps

    turn(200)
    steps = torch.tensor([round(SECONDS / turn(500))])
    dist.broadcast(steps, 0)
    with_watch, without, shares = [], [], []
    for _ in range(rounds):
        without.append(turn(int(steps)))
        leave = watch.begin(store, rank, 2, torch.device("cpu"))
        [thread] = [item for item in threading.enumerate() if item.name == "jobc-watch"]
        since = time.monotonic()
        with_watch.append(turn(int(steps)))
        clock = time.pthread_getcpuclockid(thread.ident or 0)
        shares.append(time.clock_gettime(clock) / (time.monotonic() - since))
        leave()
    if rank == 0:
        pairs = [a / b - 1 for a, b in zip(with_watch, without, strict=True)]
        on, off = statistics.median(with_watch), statistics.median(without)
        print(f"step with the watch {on * 1e6:.1f} us, without {off * 1e6:.1f} us (medians of {rounds} turns)")
        print(
            f"difference of neighbouring turns: {statistics.median(pairs):+.2%} (median), spread {spread(without):.1%}"
        )
        print(f"the watch's thread took {statistics.median(shares):.3%} of a core")
    dist.destroy_process_group()


def spread(figures: list[float]) -> float:
    """How far apart the quarters of equal turns are, which says what differences mean nothing."""
    low, _, high = statistics.quantiles(figures, n=4)
    return (high - low) / statistics.median(figures)


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
