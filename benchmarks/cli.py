"""How long jobc takes to answer, against what a user would type instead.

`python benchmarks/cli.py [ROUNDS]` times commands; `python benchmarks/cli.py --imports` says where the time of a plan
goes.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from _timing import interleaved, wall

BIN = Path(sys.executable).parent
JOB = Path(__file__).parents[1] / "examples" / "digits" / "job.yaml"
TEN = [
    "precision=bf16", "paradigm=ddp", "paradigm.static_graph=true", "hardware.per_node=4", "launcher=torchrun",
    "args=[--epochs,3,--out,out]", "env.TOKENIZERS_PARALLELISM=false", "training.seed=7",
    "training.gradient_accumulation=4", "name=digits-ten",
]  # fmt: skip
SWEEP = [
    "precision=no,bf16",
    "launcher=python,torchrun",
    "training.seed=1,2,3,4",
    "training.gradient_accumulation=1,2,4,8",
]

COMMANDS = {
    "python -c pass": [sys.executable, "-c", "pass"],
    "jobc --help": [BIN / "jobc", "--help"],
    "jobc plan": [BIN / "jobc", "plan", JOB],
    "jobc check": [BIN / "jobc", "check", JOB],
    "jobc explain": [BIN / "jobc", "explain", JOB],
    "jobc plan, 10 overrides": [BIN / "jobc", "plan", JOB, *TEN],
    "jobc plan -m, 64 plans": [BIN / "jobc", "plan", JOB, "-m", *SWEEP],
    "jobc ps, 10,000 runs": [BIN / "jobc", "ps"],
    "torchrun --help": [BIN / "torchrun", "--help"],
    "accelerate launch --help": [BIN / "accelerate", "launch", "--help"],
}
REACH = {"jobc --help": 0.06, "jobc plan": 0.20, "jobc plan, 10 overrides": 0.30}
PARTS = ("click", "msgspec", "yaml", "jsonschema", "hydra", "omegaconf", "antlr4", "jobc")


def main() -> None:
    if "--imports" in sys.argv:
        show_imports()
        return
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 9
    with tempfile.TemporaryDirectory() as folder:
        fill_registry(Path(folder), 10_000)
        env = {**os.environ, "XDG_STATE_HOME": folder}
        commands = {
            **COMMANDS,
            **{f"jobc plan, {nodes:,} node{'s' * (nodes > 1)}": many(Path(folder), nodes) for nodes in (1, 4096)},
        }
        found = interleaved({name: partial(wall, command, env=env) for name, command in commands.items()}, rounds)
    rival = found["accelerate launch --help"]
    print(f"median of {rounds} interleaved rounds\n")
    many_to_one = found["jobc plan, 4,096 nodes"] / found["jobc plan, 1 node"]
    print(f"planning 4,096 nodes takes {many_to_one:.2f} of planning one (reach 2)\n")
    print(f"| {'command':26} | seconds | of accelerate launch --help | reach |")
    print(f"|{'-' * 28}|--------:|----------------------------:|------:|")
    for name, seconds in found.items():
        reach = f"{REACH[name]:.2f}" if name in REACH else ""
        print(f"| {name:26} | {seconds:7.3f} | {seconds / rival:27.3f} | {reach:5} |")


def fill_registry(folder: Path, count: int) -> None:
    """Records of so many runs that have ended, as many a day as there are minutes."""
    for number in range(count):
        day, minute = divmod(number, 1440)
        name = f"train-202601{day + 1:02d}-{minute // 60:02d}{minute % 60:02d}00-0000"
        record = {
            "format": 1, "run_id": name, "name": "train", "digest": "0" * 64, "state": "succeeded", "pid": 1,
            "started": f"2026-01-{day + 1:02d}T{minute // 60:02d}:{minute % 60:02d}:00.000Z",
            "ended": f"2026-01-{day + 1:02d}T{minute // 60:02d}:{minute % 60:02d}:30.000Z", "exit_code": 0,
            "python": "python3", "project_dir": "/home/you/project",
            "argv": ["jobc", "run", "job.yaml", "precision=bf16"],
        }  # fmt: skip
        run = folder / "jobc" / "runs" / name
        run.mkdir(parents=True)
        (run / "record.json").write_text(json.dumps(record, indent=2))


def many(folder: Path, nodes: int) -> list[str | Path]:
    """The planning of a job on so many machines that are reached with ssh."""
    here = folder / f"{nodes}"
    here.mkdir()
    (here / "train.py").touch()
    (here / "hosts").write_text("".join(f"node{number:04}\n" for number in range(nodes)))
    (here / "job.yaml").write_text("script: train.py\ntarget: {kind: ssh, hosts_file: hosts}\n")
    return [BIN / "jobc", "plan", here / "job.yaml"]


def show_imports() -> None:
    """Milliseconds that a plan spends importing, by library, from `python -X importtime`."""
    for title, words in (("jobc plan", []), ("jobc plan with an override", ["precision=bf16"])):
        command = [sys.executable, "-X", "importtime", "-m", "jobc", "plan", JOB, *words]
        lines = subprocess.run(command, capture_output=True, text=True, check=True).stderr
        own = dict.fromkeys(PARTS, 0)
        rest = 0
        for line in lines.splitlines():
            found = re.match(r"import time: +(\d+) \| +\d+ \| +(\S+)", line)
            if found:
                root = found[2].partition(".")[0]
                if root in own:
                    own[root] += int(found[1])
                else:
                    rest += int(found[1])
        parts = ", ".join(f"{name} {spent / 1000:.0f}" for name, spent in own.items() if spent)
        print(f"{title}: {parts}, standard library and the rest {rest / 1000:.0f} ms")


if __name__ == "__main__":
    main()
