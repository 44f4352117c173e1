"""What the processes of a run wrote, read from its folder: now, or while they write."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from ..compiler.plan import Command, LaunchPlan
from .follow import Display, Follower
from .nodes import node_commands
from .screen import Sink, Source
from .torchelastic import worker_logs

#: What a run without a terminal shows, in the order in which it came.
SCREEN_LOG = "run.log"
_TICK = 0.1  # seconds between two looks at growing files


class Plain:
    """A display without prefixes, for one process that wrote both its streams to one file."""

    def __init__(self, sink: Sink) -> None:
        self._sink = sink

    def show(self, source: Source, block: bytes) -> None:  # noqa: ARG002 - there is one
        """Write lines as they are."""
        self._sink.write(block)

    def update(self, source: Source, text: bytes) -> None:
        """An unfinished line waits for its end."""


class Matching:
    """A display that passes on the lines which match a pattern."""

    def __init__(self, display: Display, pattern: re.Pattern[bytes]) -> None:
        self._display = display
        self._pattern = pattern

    def show(self, source: Source, block: bytes) -> None:
        """Write those of some whole lines that match."""
        lines = [line for line in block.splitlines(keepends=True) if self._pattern.search(line.rstrip(b"\n"))]
        if lines:
            self._display.show(source, b"".join(lines))

    def update(self, source: Source, text: bytes) -> None:
        """An unfinished line matches nothing yet."""


def inherits(plan: LaunchPlan) -> bool:
    """Whether the run's processes write to the streams of whoever started it, and to no files of their own."""
    return all(command.output == "inherit" for group in plan.nodes for command in group.commands)


def in_files(plan: LaunchPlan) -> bool:
    """Whether what the processes write is in files of the run's folder."""
    return any(
        command.output in {"capture", "torchelastic", "tagged", "deepspeed"}
        for group in plan.nodes
        for command in group.commands
    )


def sources(plan: LaunchPlan, run_dir: Path, rank: int | None = None) -> list[tuple[Source, Path]]:
    """The files of a run's processes, of one rank or of all: earlier attempts first, then by rank."""
    logs = run_dir / "logs"
    if inherits(plan):
        path = logs / SCREEN_LOG
        return [(Source(0, "stdout"), path)] if path.exists() else []
    found: list[tuple[Source, Path]] = []
    for number, command in enumerate(node_commands(plan)):
        found += _written(logs, command, number)
    return [(source, path) for source, path in found if rank is None or source.tagged or source.rank == rank]


def _written(logs: Path, command: Command, node: int) -> Iterator[tuple[Source, Path]]:
    if command.output == "torchelastic":
        return worker_logs(logs, command.ranks, ())
    return _captured(logs, command.ranks) if command.output == "capture" else _of_node(logs, node)


def _of_node(logs: Path, index: int) -> Iterator[tuple[Source, Path]]:
    for stream in ("stdout", "stderr"):
        path = logs / f"node_{index}.{stream}.log"
        if path.exists():
            yield Source(index, stream, tagged=True), path


def _captured(logs: Path, ranks: tuple[int, ...]) -> Iterator[tuple[Source, Path]]:
    for rank in ranks:
        for stream in ("stdout", "stderr"):
            path = logs / f"rank_{rank}.{stream}.log"
            if path.exists():
                yield Source(rank, stream), path


def show(plan: LaunchPlan, run_dir: Path, display: Display, rank: int | None = None) -> bool:
    """Hand everything that was written so far to a display, rank by rank; whether there are any files."""
    found = sources(plan, run_dir, rank)
    display = _of_rank(display, found, rank)
    for source, path in found:
        follower = Follower(display)
        follower.add(source, path)
        follower.finish()
    return bool(found)


def _of_rank(display: Display, found: list[tuple[Source, Path]], rank: int | None) -> Display:
    return _tagged(display, rank) if rank is not None and any(source.tagged for source, _ in found) else display


def _tagged(display: Display, rank: int) -> Display:
    """A display of the lines that carry a rank before them."""
    return Matching(display, re.compile(rb"^\[%d\] " % rank))


def follow(plan: LaunchPlan, run_dir: Path, display: Display, rank: int | None, running: Callable[[], bool]) -> None:
    """Hand everything that is written to a display, as it comes, until the run ends."""
    tagged = any(command.output in {"tagged", "deepspeed"} for group in plan.nodes for command in group.commands)
    follower = Follower(_tagged(display, rank) if tagged and rank is not None else display)
    known: set[Path] = set()
    going_on = True
    while going_on:
        going_on = running()  # asked before the look at the files, so that the last words are not missed
        for source, path in sources(plan, run_dir, rank):
            if path not in known:
                known.add(path)
                follower.add(source, path)
        if not follower.pump() and going_on:
            time.sleep(_TICK)
    follower.finish()
