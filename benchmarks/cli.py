"""How long jobc takes to answer, against what a user would type instead: `python benchmarks/cli.py [ROUNDS]`."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from _timing import interleaved, wall

BIN = Path(sys.executable).parent
JOB = Path(__file__).parents[1] / "examples" / "digits" / "job.yaml"

COMMANDS = {
    "python -c pass": [sys.executable, "-c", "pass"],
    "jobc --help": [BIN / "jobc", "--help"],
    "jobc plan": [BIN / "jobc", "plan", JOB],
    "jobc plan, 2 overrides": [BIN / "jobc", "plan", JOB, "precision=bf16", "paradigm=ddp"],
    "torchrun --help": [BIN / "torchrun", "--help"],
    "accelerate launch --help": [BIN / "accelerate", "launch", "--help"],
}
REACH = {"jobc --help": 0.06, "jobc plan": 0.20}


def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 9
    found = interleaved({name: partial(wall, command) for name, command in COMMANDS.items()}, rounds)
    rival = found["accelerate launch --help"]
    print(f"median of {rounds} interleaved rounds\n")
    print(f"| {'command':26} | seconds | of accelerate launch --help | reach |")
    print(f"|{'-' * 28}|--------:|----------------------------:|------:|")
    for name, seconds in found.items():
        reach = f"{REACH[name]:.2f}" if name in REACH else ""
        print(f"| {name:26} | {seconds:7.3f} | {seconds / rival:27.3f} | {reach:5} |")


if __name__ == "__main__":
    main()
