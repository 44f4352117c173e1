"""A difference between two plans for a person, and for a program."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from .diff import Difference, Field, Lines, Side
from .text import Paint, joined, label, one_line

FORMAT = 1


def render_diff(found: Difference, before: Side, after: Side, *, color: bool, width: int) -> str:
    """The difference, what goes in lines with `-`, what comes in lines with `+`."""
    paint = Paint(color=color)
    head = [
        f"  {paint.gone('-')} {before.shown:<40} {before.plan.name}   plan {before.plan.digest[:8]}",
        f"  {paint.come('+')} {after.shown:<40} {after.plan.name}   plan {after.plan.digest[:8]}",
    ]
    if found.empty:
        return joined([head, [f"  {paint.dim('both do the same')}"]])
    blocks = [
        head,
        list(_fields(found.fields, paint, width)),
        list(_lines("commands", found.commands, paint)),
        list(_lines("adds", found.environment, paint)),
        list(_lines("steps", found.steps, paint)),
        list(_lines("files", found.files, paint)),
        list(_lines("inputs", found.inputs, paint)),
    ]
    return joined(blocks)


def diff_as_data(found: Difference, before: Side, after: Side) -> dict[str, Any]:
    """The difference as plain data with a format number."""
    sides = {
        name: {"from": side.shown, "name": side.plan.name, "digest": side.plan.digest}
        for name, side in (("before", before), ("after", after))
    }
    return {"format": FORMAT, "same": found.empty, **sides, **msgspec.to_builtins(found)}


def _fields(fields: tuple[Field, ...], paint: Paint, width: int) -> Iterator[str]:
    column = min(max((len(field.path) for field in fields), default=0), 36)
    margin = "document"
    for field in fields:
        name = field.path.removesuffix(".kind")
        rows = (
            (paint.gone("-"), field.before, field.origin_before),
            (paint.come("+"), field.after, field.origin_after),
        )
        for sign, value, origin in rows:
            if origin is not None:
                text = one_line(value, width)
                yield f"{label(margin, paint)}{sign} {name:<{column}}  {text:<24}  {paint.dim(origin)}".rstrip()
                margin, name = "", ""


def _lines(word: str, found: tuple[Lines, ...], paint: Paint) -> Iterator[str]:
    margin = word
    for item in found:
        yield f"{label(margin, paint)}{paint.dim(item.where)}"
        margin = ""
        for sign, lines in ((paint.gone("-"), item.before), (paint.come("+"), item.after)):
            yield from (f"{label('', paint)}{sign} {line}" for line in lines)
