"""Wall time of commands, interleaved in one run, so that a machine that changes its speed changes all alike."""

from __future__ import annotations

import statistics
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path


def wall(command: Sequence[str | Path], **options: object) -> float:
    """Seconds from the start of a command to its end; its output is thrown away."""
    start = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True, **options)
    return time.perf_counter() - start


def until_line(command: Sequence[str | Path], wanted: str, **options: object) -> float:
    """Seconds from the start of a command to the moment that a script of its wrote down, in its line `wanted TIME`."""
    start = time.time()
    done = subprocess.run(command, check=True, capture_output=True, text=True, **options)
    times = [float(line.split()[-1]) for line in done.stdout.splitlines() if wanted in line]
    return max(times) - start


def interleaved(measures: Mapping[str, object], rounds: int) -> dict[str, float]:
    """The median of each measure over rounds in which every one is taken once, after a round that is not counted."""
    taken: dict[str, list[float]] = {name: [] for name in measures}
    for number in range(rounds + 1):
        for name, measure in measures.items():
            seconds = measure()
            if number:
                taken[name].append(seconds)
    return {name: statistics.median(values) for name, values in taken.items()}
