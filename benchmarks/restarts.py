"""How often a job comes back after one of its processes failed: `python benchmarks/restarts.py [RUNS]`.

Each run is `jobc run` with `nodes.max_restarts: 1` on two CPU processes over gloo. In the first attempt one process
fails, by turns rank 0 with an exception, rank 1 by SIGKILL, and each of them in the midst of training or at its start;
the second attempt has to train to its end. A run that hangs is ended after two minutes and counts as lost.
"""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

JOB = """
script: train.py
hardware: {kind: cpu, per_node: 2}
nodes: {max_restarts: 1}
"""
TRAIN = """
import os, signal, sys
import torch
from jobc import Accelerator

rank, step_to_fail, how = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
accelerator = Accelerator()
model = torch.nn.Linear(8, 1)
model, optimizer = accelerator.prepare(model, torch.optim.SGD(model.parameters(), lr=0.1))
for step in range(20):
    if os.environ["TORCHELASTIC_RESTART_COUNT"] == "0" and (rank, step_to_fail) == (accelerator.process_index, step):
        if how == "SIGKILL":
            os.kill(os.getpid(), signal.SIGKILL)
        raise RuntimeError("meant")
    accelerator.backward(model(torch.ones(4, 8)).sum())
    optimizer.step()
    optimizer.zero_grad()
total = accelerator.reduce(torch.ones(1)).item()
accelerator.print("came back", total, os.environ["TORCHELASTIC_RESTART_COUNT"])
"""
CASES = list(itertools.product((0, 1), (0, 10), ("an exception", "SIGKILL"), ("ddp", "fsdp")))


def run(folder: Path, rank: int, step: int, how: str, paradigm: str) -> str:
    """One job; what was wrong with it, or nothing."""
    words = f'args=["{rank}", "{step}", "{how}"]'
    command = [sys.executable, "-m", "jobc", "run", "job.yaml", f"paradigm={paradigm}", words]
    env = {**os.environ, "XDG_STATE_HOME": str(folder / "state")}
    try:
        ended = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, timeout=120, check=False)
    except subprocess.TimeoutExpired:
        return "did not end within two minutes"
    back = "came back 2.0 1" in ended.stdout and "all processes start again (restart 1)" in ended.stderr
    return "" if back and ended.returncode == 0 else f"exit code {ended.returncode}\n{ended.stdout}{ended.stderr}"


def main() -> None:
    """Prints a line for each case and the count."""
    runs = int(sys.argv[1]) if len(sys.argv) > 1 else 50
    back, since = 0, time.perf_counter()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "job.yaml").write_text(JOB)
        (folder / "train.py").write_text(TRAIN)
        for case in itertools.islice(itertools.cycle(CASES), runs):
            wrong = run(folder, *case)
            back += not wrong
            rank, step, how, paradigm = case
            if wrong:
                print(f"lost: rank {rank}, step {step}, {how}, {paradigm}: {wrong}")
    print(f"{back} of {runs} came back, {(time.perf_counter() - since) / runs:.1f} s a run")


if __name__ == "__main__":
    main()
