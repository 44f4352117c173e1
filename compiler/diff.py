"""What two plans do differently: values with both origins, then commands, variables, files."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from difflib import SequenceMatcher
from typing import Any

import msgspec

from ..spec import ResolvedSpec
from .plan import CallApi, Command, LaunchPlan, NodeGroup, PackFiles, Step, WriteFile
from .quoting import plain, shown, shown_argv
from .steps import line, node_names, request_lines
from .text import flat_values


class Side(msgspec.Struct, frozen=True, kw_only=True):
    """One of two plans that are compared; `shown` is what the person called it."""

    shown: str
    spec: ResolvedSpec
    plan: LaunchPlan


class Field(msgspec.Struct, frozen=True, kw_only=True):
    """A value of the document that differs, with both origins in words; None where a side does not have the field."""

    path: str
    before: Any
    after: Any
    origin_before: str | None
    origin_after: str | None


class Lines(msgspec.Struct, frozen=True, kw_only=True):
    """Text that differs: where it stands, the lines that go and the lines that come."""

    where: str
    before: tuple[str, ...]
    after: tuple[str, ...]


class Difference(msgspec.Struct, frozen=True, kw_only=True):
    """Everything in which two plans differ.

    `steps` are those of `submit` and the other verbs, `commands` those of the nodes, `environment` what jobc adds for
    them. `inputs` are the files that are brought along, by hash.
    """

    fields: tuple[Field, ...]
    steps: tuple[Lines, ...]
    commands: tuple[Lines, ...]
    environment: tuple[Lines, ...]
    files: tuple[Lines, ...]
    inputs: tuple[Lines, ...]

    @property
    def empty(self) -> bool:
        """Whether the two do the same."""
        return not any(getattr(self, name) for name in self.__struct_fields__)


def compare(before: Side, after: Side) -> Difference:
    """What the second plan does differently from the first."""
    one, two = before.plan, after.plan
    return Difference(
        fields=tuple(_fields(before.spec, after.spec)),
        steps=tuple(_lines(verbs(one), verbs(two))),
        commands=tuple(_of_nodes(one, two, _commands)),
        environment=tuple(_of_nodes(one, two, _environment)),
        files=tuple(_lines(_files(one), _files(two))),
        inputs=tuple(_lines(_inputs(one), _inputs(two))),
    )


def _fields(one: ResolvedSpec, two: ResolvedSpec) -> Iterator[Field]:
    before, after = dict(flat_values(one)), dict(flat_values(two))
    for path in {**before, **after}:
        old, new = before.get(path), after.get(path)
        if ((path in before) == (path in after) and old == new) or _grew(path, before, after):
            continue
        yield Field(
            path=path,
            before=old,
            after=new,
            origin_before=str(one.origin(path)) if path in before else None,
            origin_after=str(two.origin(path)) if path in after else None,
        )


def _grew(path: str, before: dict[str, object], after: dict[str, object]) -> bool:
    """Whether a path is an empty block or list of one side only, whose parts on the other side say all there is."""
    here, other = (before, after) if path in before else (after, before)
    if path in other or here[path] not in ({}, [], ()):
        return False
    return any(name.startswith((f"{path}.", f"{path}[")) for name in other)


def _lines(one: dict[str, tuple[str, ...]], two: dict[str, tuple[str, ...]]) -> Iterator[Lines]:
    for where in {**one, **two}:
        before, after = one.get(where, ()), two.get(where, ())
        if before == after:
            continue
        changes = [
            code for code in SequenceMatcher(None, before, after, autojunk=False).get_opcodes() if code[0] != "equal"
        ]
        yield Lines(
            where=where,
            before=tuple(line for _, start, end, _, _ in changes for line in before[start:end]),
            after=tuple(line for _, _, _, start, end in changes for line in after[start:end]),
        )


def _of_nodes(one: LaunchPlan, two: LaunchPlan, lines: Callable[[NodeGroup], Iterator[str]]) -> Iterator[Lines]:
    """What differs between groups of nodes, compared in their order."""
    before, after = (
        {str(number): tuple(lines(group)) for number, group in enumerate(plan.nodes)} for plan in (one, two)
    )
    for item in _lines(before, after):
        number = int(item.where)
        group = two.nodes[number] if number < len(two.nodes) else one.nodes[number]
        yield msgspec.structs.replace(item, where=node_names(group.numbers))


def _commands(group: NodeGroup) -> Iterator[str]:
    for command in group.commands:
        yield from _command(command)


def _command(command: Command) -> Iterator[str]:
    yield from (line for line in plain(command.stdin or "").splitlines())
    yield shown_argv(command.argv) + (f"   in {shown(command.cwd)}" if command.cwd is not None else "")


def _environment(group: NodeGroup) -> Iterator[str]:
    """The variables of a group of nodes; where its commands have different values, each with its ranks."""
    commands = group.commands
    for name in sorted({name for command in commands for name in command.env}):
        values = dict.fromkeys(shown(command.env[name]) for command in commands if name in command.env)
        for value in values:
            ranks = [
                rank
                for command in commands
                if name in command.env and shown(command.env[name]) == value
                for rank in command.ranks
            ]
            everywhere = len(values) == 1 and all(name in command.env for command in commands)
            yield f"{name}={value}" + ("" if everywhere else f"   (rank {', '.join(map(str, ranks))})")
    for prefix in dict.fromkeys(prefix for command in commands for prefix in command.unset):
        yield f"{prefix}* is taken away where it is inherited"


def verbs(plan: LaunchPlan) -> dict[str, tuple[str, ...]]:
    """The steps of every verb as lines, and the secrets."""
    names = ("submit", "status", "logs", "follow", "wait", "stop", "preflight")
    found = {name: tuple(_step(step, plan) for step in getattr(plan, name)) for name in names}
    return {**found, "secrets": plan.secrets}


def _step(step: Step, plan: LaunchPlan) -> str:
    """A step on one line; what a file holds is compared by itself."""
    found = line(step, plan)
    return str(found._replace(remarks=(f"mode {step.mode:o}",)) if isinstance(step, WriteFile) else found)


def _files(plan: LaunchPlan) -> dict[str, tuple[str, ...]]:
    """What is written, packed and sent, but for the resolved document: its values are compared one by one."""
    found: dict[str, tuple[str, ...]] = {}
    for step in plan.submit:
        match step:
            case WriteFile():
                found[shown(step.path)] = tuple(plain(step.content).splitlines())
            case PackFiles():
                found[shown(step.path)] = step.files
            case CallApi():
                name = f"{step.service} {step.operation}"
                found[name] = (*found.get(name, ()), *request_lines(step))
            case _:
                pass
    return found


def _inputs(plan: LaunchPlan) -> dict[str, tuple[str, ...]]:
    return {name: (value,) for name, value in plan.inputs.items()}
