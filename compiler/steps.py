"""The steps of a plan in words, for its text and for what two plans do differently."""

from __future__ import annotations

import json
from typing import NamedTuple

from msgspec import convert

from ..spec.untyped import as_dict, as_list
from .plan import (
    CallApi,
    LaunchPlan,
    PackFiles,
    Ref,
    Report,
    RunCommand,
    RunForNodes,
    StartNodes,
    Step,
    Text,
    WriteFile,
)
from .quoting import plain, shown, shown_argv

_NAMED = 8  # files that are named before they are counted


class Line(NamedTuple):
    """A step on one line: what is done, with what, and what is worth knowing beside it."""

    verb: str
    what: str
    remarks: tuple[str, ...] = ()

    def __str__(self) -> str:
        return ", ".join((f"{self.verb} {self.what}", *self.remarks))


def line(step: Step, plan: LaunchPlan) -> Line:
    """A step of a plan in words."""
    match step:
        case WriteFile():
            return Line("write", shown(step.path), (f"{size(step)}, mode {step.mode:o}",))
        case PackFiles():
            return Line("pack", shown(step.path), (_files(step.files),))
        case RunCommand():
            captured = tuple(f"-> {capture.name}" for capture in step.captures)
            return Line("run", shown_argv(step.command.argv), (*captured, *_limit(step.timeout)))
        case RunForNodes():
            return Line("run", shown_argv(step.command.argv), (f"for each node, {step.at_once} at once",))
        case StartNodes():
            ports = (f"needs port {', '.join(map(str, step.ports))} free",) if step.ports else ()
            again = (f"a node that is lost starts again, {step.restarts} times",) if step.restarts else ()
            again += (f"{step.least} or more go on without those that are lost",) if step.least else ()
            return Line(
                "start", f"{node_names(range(plan.machines))} and wait", (*ports, *again, *_limit(step.timeout))
            )
        case CallApi():
            captured = tuple(f"-> {name}" for name in step.captures)
            where = () if step.region is None else (f"in {step.region}",)
            return Line("call", f"{step.service} {step.operation}", (*where, *captured, *_often(step.every)))
        case Report():
            return Line("ask", shown_argv(step.command.argv), _often(step.every))


def _often(every: float | None) -> tuple[str, ...]:
    return () if every is None else (f"every {every:g} s until it has ended",)


def node_names(numbers: range) -> str:
    """Nodes in words: `node 3`, `nodes 0-255`."""
    return f"node {numbers[0]}" if len(numbers) == 1 else f"nodes {numbers[0]}-{numbers[-1]}"


def size(step: WriteFile) -> str:
    """What a written file holds, in a few words."""
    if step.content == (Ref("spec"),):
        return "the resolved document"
    text = plain(step.content)
    if text.endswith("\0"):  # a list of files
        return _files(tuple(text[:-1].split("\0")))
    lines = text.count("\n") + (not text.endswith("\n"))
    return f"{lines} line{'s' if lines > 1 else ''}"


def request_lines(step: CallApi) -> tuple[str, ...]:
    """The request of a call as indented JSON, placeholders as `<name>`."""
    return tuple(json.dumps(_readable(step.request), indent=2, ensure_ascii=False).splitlines())


def _readable(value: object) -> object:
    block, items = as_dict(value), as_list(value)
    if block is not None and len(block) == 1 and (pieces := as_list(block.get("text") or block.get("file"))):
        text = plain(convert(pieces, Text))
        return text if "text" in block else f"<content of {text}>"
    if block is not None:
        return {name: _readable(item) for name, item in block.items()}
    return value if items is None else [_readable(item) for item in items]


def _files(names: tuple[str, ...]) -> str:
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return f"{len(names)} file{'s' if len(names) > 1 else ''}: {' '.join(map(shown, names[:_NAMED]))}{more}"


def _limit(timeout: float | None) -> tuple[str, ...]:
    return () if timeout is None else (f"at most {timeout:g} s",)
