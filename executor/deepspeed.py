"""What DeepSpeed's launcher says of a process that failed: an exit code, in its log, and not whose."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from .model import Failure, failure_of
from .torchelastic import Deaths, end_of

#: How the launcher notes the end of a process.
NOTED_BY_DEEPSPEED = re.compile(rb"exits with return code = (-?\d+)")


def first_failure(log: Path, deaths: Deaths, ranks: Sequence[int]) -> Failure | None:
    """The process of this machine that failed first; without one, what the launcher of some machine says."""
    for pid in deaths.order:
        code = deaths.codes.get(pid, 0)
        if code != 0 and pid in deaths.places:
            return failure_of(code, rank=ranks[deaths.places[pid][1]])
    return noted_failure(log)


def noted_failure(log: Path) -> Failure | None:
    """The first failure that a launcher notes."""
    found = NOTED_BY_DEEPSPEED.search(end_of(log))
    return None if found is None else failure_of(int(found[1]), rank=None)
