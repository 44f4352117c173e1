"""DeepSpeed's hostfile, a machine and its number of devices a line, and the words that choose among them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

_LINE = re.compile(r"(\S+)\s+slots=([0-9]{1,4})(?:\s.*)?\Z")
_CHOICE = re.compile(r"(?P<name>[^:@,\s]+)(?::(?P<slots>[0-9]{1,4}(?:,[0-9]{1,4})*))?\Z")


class Machine(NamedTuple):
    """A machine, and the numbers of its devices that are used."""

    name: str
    slots: tuple[int, ...]

    @property
    def first_ones(self) -> bool:
        """Whether they are its first devices, which a number can say."""
        return self.slots == tuple(range(len(self.slots)))


class HostfileError(Exception):
    """What is wrong with a hostfile, and on which line; or with a choice among its machines."""

    def __init__(self, cause: str, line: int | None = None, excerpt: str = "") -> None:
        super().__init__(cause)
        self.cause = cause
        self.line = line
        self.excerpt = excerpt


def read(text: str) -> tuple[Machine, ...]:
    """The machines of a hostfile.

    Raises:
        HostfileError: a line has another form or names a machine again, or there is none.
    """
    found: dict[str, Machine] = {}
    for number, line in enumerate(text.splitlines(), 1):
        word = line.strip()
        if not word or word.startswith("#"):
            continue
        matched = _LINE.match(word)
        if matched is None or int(matched[2]) == 0:
            raise HostfileError(f"`{word}` is no line such as `node1 slots=8`", number, line)
        if matched[1] in found:
            raise HostfileError(f"`{matched[1]}` is named twice", number, line)
        found[matched[1]] = Machine(matched[1], tuple(range(int(matched[2]))))
    if not found:
        raise HostfileError("it names no machine")
    return tuple(found.values())


def chosen(machines: Sequence[Machine], include: str | None, exclude: str | None) -> tuple[Machine, ...]:
    """The machines and devices that are used, in the order of the hostfile, as the deepspeed command chooses them.

    Raises:
        HostfileError: a choice has another form, or is of a machine or a device that there is not; none is left.
    """
    known = {machine.name: machine for machine in machines}
    said = _said(include or exclude or "", known) if include or exclude else {}
    left: list[Machine] = []
    for machine in machines:
        if include:
            slots = said.get(machine.name, ())
        else:
            slots = tuple(slot for slot in machine.slots if slot not in said.get(machine.name, ()))
        if slots:
            left.append(Machine(machine.name, slots))
    if not left:
        raise HostfileError("it leaves no machine")
    return tuple(left)


def _said(choice: str, known: dict[str, Machine]) -> dict[str, tuple[int, ...]]:
    """The devices that are named, by machine; one that is named without devices is named with all."""
    found: dict[str, tuple[int, ...]] = {}
    for word in choice.split("@"):
        matched = _CHOICE.match(word)
        if matched is None:
            raise HostfileError(f"`{word}` is no machine such as `node1`, or `node1:0,1`")
        machine = known.get(matched["name"])
        if machine is None:
            raise HostfileError(f"the hostfile has no machine `{matched['name']}`")
        slots = tuple(map(int, matched["slots"].split(","))) if matched["slots"] else machine.slots
        for slot in slots:
            if slot not in machine.slots:
                raise HostfileError(f"`{machine.name}` has no device {slot}: its hostfile says {len(machine.slots)}")
        found[machine.name] = tuple(sorted({*found.get(machine.name, ()), *slots}))
    return found
