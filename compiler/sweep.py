"""The text form of a sweep: a table of what differs between its plans, and what they share once."""

from __future__ import annotations

import textwrap
from typing import NamedTuple

from ..spec import Finding, ResolvedSpec
from .plan import Array, LaunchPlan, WriteFile
from .quoting import plain
from .steps import line
from .text import Paint, body, findings_block, flat_values, joined, label, terminal_width

_WIDEST = 32  # columns of one value in the table
_LONGEST = 40  # lines of a script


class Planned(NamedTuple):
    """One plan of a sweep, with the overrides that lead to it."""

    overrides: tuple[str, ...]
    spec: ResolvedSpec
    plan: LaunchPlan


def render_sweep(
    plans: tuple[Planned, ...], arrays: tuple[Array, ...], first: str, *, color: bool, width: int | None = None
) -> str:
    """The plans of a sweep for a person.

    Args:
        plans: the plans in their order.
        arrays: those of them that are submitted together.
        first: the command line that shows the first plan whole.
        color: whether to use ANSI colours.
        width: columns to fit; the terminal's when not given.
    """
    paint = Paint(color=color)
    width = width or terminal_width()
    names = sorted({planned.plan.name for planned in plans})
    count = f"{len(plans)} plan{'s' if len(plans) != 1 else ''}"
    headline = f"  {paint.bold(names[0] if len(names) == 1 else 'several jobs')}   {count}"
    return joined(
        [
            [headline],
            _table(plans, paint),
            *_shared(plans, paint, width),
            *(_array(array, plans, paint) for array in arrays),
            _findings(plans, paint),
            [f"  {paint.dim(f'{first}   shows the first one whole')}"],
        ]
    )


def _table(plans: tuple[Planned, ...], paint: Paint) -> list[str]:
    """A row for each plan: the values of the overrides that vary, its digest, its processes."""
    columns = list(zip(*(planned.overrides for planned in plans), strict=True))
    varying = [words for words in columns if len(set(words)) > 1]
    heads = ["plan", *(words[0].partition("=")[0] for words in varying), "digest", "nodes x processes"]
    rows = [
        [
            str(number),
            *(_cut(words[number - 1].partition("=")[2]) for words in varying),
            planned.plan.digest[:8],
            f"{planned.plan.machines} x {planned.spec.job.processes_per_node}",
        ]
        for number, planned in enumerate(plans, 1)
    ]
    widths = [max(len(row[index]) for row in [heads, *rows]) for index in range(len(heads))]
    lines = ["  " + "   ".join(f"{word:<{wide}}" for word, wide in zip(row, widths, strict=True)) for row in rows]
    head = "  " + "   ".join(f"{word:<{wide}}" for word, wide in zip(heads, widths, strict=True))
    return [paint.dim(head.rstrip()), *(line.rstrip() for line in lines)]


def _cut(text: str) -> str:
    text = "".join(char if char.isprintable() else f"\\x{ord(char):02x}" for char in text)
    return text if len(text) <= _WIDEST else f"{text[: _WIDEST - 3]}..."


def _shared(plans: tuple[Planned, ...], paint: Paint, width: int) -> list[list[str]]:
    """The blocks of the first plan, without what is otherwise in another one."""
    said = [dict(flat_values(planned.spec)) for planned in plans]
    paths = list({path: None for values in said for path in values})
    told = [
        {path: (values.get(path), str(planned.spec.origin(path))) for path in paths}
        for values, planned in zip(said, plans, strict=True)
    ]
    differing = frozenset(path for path in paths if any(one[path] != told[0][path] for one in told))
    bodies = [body(planned.plan, planned.spec, paint, width, hidden=differing) for planned in plans]
    document, *rest = bodies[0]
    if differing:
        names = ", ".join(path.removesuffix(".kind") for path in paths if path in differing)
        document += [label("differ", paint) + paint.dim(line) for line in textwrap.wrap(names, width - 13)[:1]]
        document += [label("", paint) + paint.dim(line) for line in textwrap.wrap(names, width - 13)[1:]]
    return [document, *(block for block in rest if all(block in other for other in bodies))]


def _array(array: Array, plans: tuple[Planned, ...], paint: Paint) -> list[str]:
    """What takes the place of the commands with which the plans would be submitted one by one."""
    numbers = [place + 1 for place in array.plans]
    whole = numbers == list(range(numbers[0], numbers[-1] + 1))
    names = f"{numbers[0]} to {numbers[-1]}" if whole else ", ".join(map(str, numbers))
    first, *_ = array.plans
    lines = [f"plans {names} as one array; the files of each lie in its own run's folder, and in place of its command:"]
    lines += [str(line(step, plans[first].plan)) for step in array.submit]
    written = (step for step in array.submit if isinstance(step, WriteFile))
    lines += [paint.dim(f"  | {text}") for step in written for text in _short_of(plain(step.content).splitlines())]
    return [label("" if number else "together", paint) + text for number, text in enumerate(lines)]


def _short_of(lines: list[str]) -> list[str]:
    """The lines of a script; where there are many, those before the last two are counted."""
    left = len(lines) - _LONGEST
    return lines if left <= 0 else [*lines[: _LONGEST - 3], f"  ... {left + 1} lines", *lines[-2:]]


def _findings(plans: tuple[Planned, ...], paint: Paint) -> list[str]:
    """Each warning and hint once, with the plans that have it where not all have."""
    found: dict[Finding, list[int]] = {}
    for number, planned in enumerate(plans, 1):
        for finding in planned.plan.findings:
            found.setdefault(finding, []).append(number)
    lines: list[str] = []
    for finding, numbers in found.items():
        lines += findings_block([finding], paint)
        if len(numbers) < len(plans):
            lines.append(paint.dim(f"    in plan{'s' if len(numbers) > 1 else ''} {', '.join(map(str, numbers))}"))
    return lines
