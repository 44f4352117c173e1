"""Time from the command to the first line of the user's script: `python benchmarks/launch.py [ROUNDS]`.

With several processes it is the last one to arrive that counts.
"""

from __future__ import annotations

import os
import sys
import tempfile
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from _timing import interleaved, until_line

BIN = Path(sys.executable).parent
#: One write, so that the lines of two processes never mix.
SCRIPT = 'import os, time\nos.write(1, f"first line at {time.time()}\\n".encode())\n'
JOB = "script: train.py\nhardware: {{kind: cpu, per_node: {processes}}}\nlauncher: {launcher}\n"


def commands() -> dict[str, list[str | Path]]:
    jobc = [BIN / "jobc", "run"]
    accelerate = [BIN / "accelerate", "launch", "--cpu"]
    return {
        "1 process: python": [sys.executable, "train.py"],
        "1 process: jobc run": [*jobc, "one.yaml"],
        "1 process: accelerate launch": [*accelerate, "--num_processes", "1", "train.py"],
        "2 processes: torchrun": [BIN / "torchrun", "--standalone", "--nproc-per-node", "2", "train.py"],
        "2 processes: jobc run": [*jobc, "two.yaml"],
        "2 processes: jobc run launcher=python": [*jobc, "direct.yaml"],
    }


BASE = {
    "1 process: jobc run": ("1 process: python", 0.3),
    "1 process: accelerate launch": ("1 process: python", None),
    "2 processes: torchrun": ("1 process: python", None),
    "2 processes: jobc run": ("2 processes: torchrun", 0.3),
    "2 processes: jobc run launcher=python": ("1 process: python", 0.4),
}


def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 7
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "train.py").write_text(SCRIPT)
        for name, processes, launcher in (("one", 1, "auto"), ("two", 2, "torchrun"), ("direct", 2, "python")):
            (Path(folder) / f"{name}.yaml").write_text(JOB.format(processes=processes, launcher=launcher))
        env = {**os.environ, "XDG_STATE_HOME": folder, "OMP_NUM_THREADS": "1"}
        measures = {
            name: partial(until_line, command, "first line at", cwd=folder, env=env)
            for name, command in commands().items()
        }
        found = interleaved(measures, rounds)
    print(f"median of {rounds} interleaved rounds\n")
    print(f"| {'until the first line of the script':37} | seconds | more than            | by     | reach |")
    print(f"|{'-' * 39}|--------:|:---------------------|-------:|------:|")
    for name, seconds in found.items():
        base, reach = BASE.get(name, (None, None))
        more = f"{seconds - found[base]:+.3f}" if base else ""
        print(f"| {name:37} | {seconds:7.3f} | {(base or '').partition(': ')[2]:20} | {more:6} | {reach or '':5} |")


if __name__ == "__main__":
    main()
