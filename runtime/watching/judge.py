"""What looks at all processes together mean: who keeps whom waiting, and whether that can end well."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ...spec.findings import Finding, Place, finding
from .sight import Sight

#: Seconds in which a process does not move before others are asked about.
PATIENCE = 4.0
_QUIET = 0.1  # of a core; where more is taken, something may be on its way
_MOST = 8  # places that a finding shows

Sights = Mapping[int, Sight | None]


def judge(sights: Sights, mine: Sight) -> Finding | None:
    """What is to be said, by the lowest of the processes that wait; an error where waiting is in vain.

    None in `sights` is a process that does not answer. All that wait in the same call, for a slow network perhaps, are
    no reason to say anything.
    """
    if mine.state != "waits" or mine.seconds < PATIENCE:
        return None
    seen = [sight for sight in sights.values() if sight is not None]
    if mine.rank != min(sight.rank for sight in seen if sight.state == "waits"):
        return None
    gone = [sight.rank for sight in seen if sight.state in ("ended", "failed")]
    if gone:
        cause = f"{_who(mine)} in `{_call(mine)}` for {_ranks(gone)}, which {'have' if len(gone) > 1 else 'has'} ended"
        return _finding("J515", cause, sights, mine, _SAME)
    waiting = [sight for sight in seen if sight.state == "waits"]
    if len(waiting) == len(sights):
        return _all_wait(waiting, sights, mine)
    others = [rank for rank, sight in sights.items() if sight is None or _is_elsewhere(sight, mine)]
    if not others:
        return None  # one does within the same call what the others wait for: it writes, or makes something
    cause = f"{_who(mine)} in `{_call(mine)}` for {_ranks(others)}"
    step = f"the training goes on when {_ranks(others)} {'come' if len(others) > 1 else 'comes'} to the same call"
    return _finding("J514", cause, sights, mine, f"{step};\nif that call is only made where it waits, make it in all")


def after_failure(sights: Sights, mine: Sight) -> Finding | None:
    """What is to be said when talking to others failed here, unless one of them failed by itself and says so."""
    if any(sight is not None and sight.own for sight in sights.values()):
        return None
    elsewhere = [rank for rank, sight in sights.items() if rank != mine.rank and not _together(sight, mine)]
    if not elsewhere:
        return None
    cause = f"rank {mine.rank} was in `{_call(mine)}`, and {_ranks(elsewhere)} {_was(sights, elsewhere)}"
    return _finding("J515", cause, sights, mine, _SAME)


_SAME = (
    "all processes have to make the same calls in the same order, and as many of them;\n"
    "look for a call under a condition that differs, data of other lengths, an exception that one of them swallowed;\n"
    "`training.debug: true` compares these calls before they run"
)


def _all_wait(waiting: Sequence[Sight], sights: Sights, mine: Sight) -> Finding | None:
    if all(_together(sight, mine) for sight in waiting):
        return None
    if any(sight.seconds < PATIENCE or sight.busy > _QUIET for sight in waiting):
        return None  # some came just now, or data is on its way; the next look will tell
    calls = " and ".join(sorted({f"`{_call(sight)}`" for sight in waiting}))
    counts = {sight.sequence for sight in waiting}
    how = f"in {calls}" if len({_call(sight) for sight in waiting}) > 1 else f"in {calls}, not all in the same one"
    if len(counts) > 1:
        how += f" (collectives so far: {', '.join(_counted(waiting))})"
    return _finding("J515", f"all processes wait for each other {how}", sights, mine, _SAME)


def _counted(waiting: Sequence[Sight]) -> list[str]:
    by_count: dict[int, list[int]] = {}
    for sight in waiting:
        by_count.setdefault(sight.sequence, []).append(sight.rank)
    return [f"{count} in {_ranks(ranks)}" for count, ranks in sorted(by_count.items())]


def _together(sight: Sight | None, mine: Sight) -> bool:
    """Whether two processes are in the same collective, as far as one can see."""
    if sight is None or sight.state in ("ended", "works"):
        return False
    same_call = (sight.operation, sight.sequence) == (mine.operation, mine.sequence)
    return same_call or (sight.state == mine.state == "failed" and sight.operation == mine.operation)


def _is_elsewhere(sight: Sight, mine: Sight) -> bool:
    return sight.state != "waits" and (sight.place, sight.call) != (mine.place, mine.call)


def _finding(code: str, cause: str, sights: Sights, mine: Sight, step: str) -> Finding:
    groups: dict[tuple[str, Place | None], list[int]] = {}
    for rank, sight in sorted(sights.items()):
        if rank != mine.rank:
            place = None if sight is None else sight.place
            groups.setdefault((_label(sight), place), []).append(rank)
    related = [(f"{_ranks(ranks)} {_plural(label, ranks)}", place) for (label, place), ranks in groups.items()]
    shown = [(label, place or Place(source="outside of the script")) for label, place in related[:_MOST]]
    if len(related) > _MOST:
        step = f"{step}\n{len(related) - _MOST} more places are not shown"
    return finding(code, cause, place=mine.place, related=tuple(shown), next_step=step)


_DOES = {"waits": "waits", "works": "is at work", "failed": "failed"}


def _label(sight: Sight | None) -> str:
    if sight is None:
        return "does not answer: it is gone, stopped, or computes without letting go of Python"
    if sight.state == "ended":
        return "has come to the end of its script"
    within = f" within `{sight.function}`" if sight.function not in (None, "<module>") else ""
    call = f" in `{_call(sight)}`" if sight.call or sight.operation else ""
    return _DOES[sight.state] + call + within


def _plural(label: str, ranks: Sequence[int]) -> str:
    word, _, rest = label.partition(" ")
    return label if len(ranks) == 1 else f"{_SEVERAL.get(word, word)} {rest}"


_SEVERAL = {"waits": "wait", "is": "are", "has": "have", "does": "do"}


def _was(sights: Sights, ranks: Sequence[int]) -> str:
    states = {None if sight is None else sight.state for sight in (sights[rank] for rank in ranks)}
    if states == {"ended"}:
        return "had ended"
    return "did not answer" if states == {None} else "were not" if len(ranks) > 1 else "was not"


def _who(mine: Sight) -> str:
    return f"rank {mine.rank} has waited {mine.seconds:.0f} s"


def _call(sight: Sight) -> str:
    return sight.call or sight.operation or "its own code"


def _ranks(ranks: Sequence[int]) -> str:
    """`rank 3`, or `ranks 0-2 and 5`."""
    runs: list[list[int]] = []
    for rank in sorted(ranks):
        if runs and runs[-1][-1] == rank - 1:
            runs[-1].append(rank)
        else:
            runs.append([rank])
    words = [str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in runs]
    listed = " and ".join([", ".join(words[:-1]), words[-1]]) if len(words) > 1 else words[0]
    return f"rank {listed}" if len(ranks) == 1 else f"ranks {listed}"
