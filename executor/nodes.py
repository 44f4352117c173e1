"""The commands of single nodes, from those that a group of nodes has in common."""

from __future__ import annotations

import shlex
from collections.abc import Iterator

import msgspec

from ..compiler.plan import Command, LaunchPlan, NodeGroup, Ref, Text


def node_commands(plan: LaunchPlan, one: Command | None = None) -> Iterator[Command]:
    """What is started on every node, in order, with the ranks of the whole job; or `one` command for each of them."""
    for group in plan.nodes:
        for place in range(group.count):
            for command in group.commands if one is None else (one,):
                yield on_node(command, group, place)


def on_node(command: Command, group: NodeGroup, place: int) -> Command:
    """A command of a group for its machine at a place."""
    if group.first == 0 and group.count == 1 and command.host is None:
        return command
    node, host = group.first + place, group.hosts[place] if group.hosts else None

    def put(text: Text) -> Text:
        if isinstance(text, str):
            return text
        parts: tuple[str | Ref, ...] = tuple(
            part if isinstance(part, str) else _known(part, node, host, group.processes) for part in text
        )
        known = [part for part in parts if isinstance(part, str)]
        return "".join(known) if len(known) == len(parts) else parts

    return msgspec.structs.replace(
        command,
        argv=tuple(put(word) for word in command.argv),
        env={name: put(text) for name, text in command.env.items()},
        stdin=None if command.stdin is None else put(command.stdin),
        cwd=None if command.cwd is None else put(command.cwd),
        host=None if command.host is None else put(command.host),
        ranks=tuple(node * group.processes + rank for rank in command.ranks),
    )


def _known(part: Ref, node: int, host: str | None, processes: int) -> Ref | str:
    match part.ref:
        case "node":
            return str(node)
        case "host" if host is not None:
            return shlex.quote(host) if part.quote else host
        case "rank":
            return str(node * processes + part.local)
        case _:
            return part
