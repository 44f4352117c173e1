"""Tells the overrides that choose a group file from those that set a value.

`hardware=dgx` chooses the file `hardware/dgx.yaml` where there is one; otherwise it is the shorthand for
`hardware.kind=dgx`. `~hardware` takes a choice of the defaults list away.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import msgspec

from . import plugins, shape
from .defaults import Item
from .findings import Finding, nearest
from .groups import Library
from .overrides import Override
from .sources import Sources
from .tree import DEFAULT, Mapping, Origin, Path, Scalar, Sequence


class Choice(msgspec.Struct, frozen=True, kw_only=True):
    """A choice of group files on the command line; no names mean none. A deletion may name what it takes away."""

    action: Literal["choose", "add", "delete"]
    group: str
    package: str | None
    names: tuple[str, ...]
    origin: Origin
    override: Override

    @property
    def key(self) -> str:
        """The name under which defaults lists know the choice."""
        if self.package is None or self.package == self.group.replace("/", "."):
            return self.group
        return f"{self.group}@{self.package}"

    def item(self) -> Item:
        """The choice as an entry of the job's defaults list."""
        return Item(group=self.group, names=self.names, package=self.package, origin=self.origin)


class Picked(NamedTuple):
    """Overrides taken apart: choices of groups, the others, and what is wrong with some."""

    choices: tuple[Choice, ...]
    rest: list[Override]
    findings: list[Finding]


def pick(overrides: list[Override], library: Library, sources: Sources) -> Picked:
    """The choices among the overrides; those without a file (`~x`, `x=null`) may turn out to be plain settings."""
    choices: list[Choice] = []
    rest: list[Override] = []
    findings: list[Finding] = []
    for override in overrides:
        names = _names(override)
        if override.group is not None and names is None and not override.path:
            findings.append(_no_name(override, override.group, sources))
            continue
        if override.group is None or names is None:
            rest.append(override)
            continue
        found = all(library.has(f"{override.group}/{name}") for name in names)
        if override.action == "delete" or found:
            choices.append(_choice(override, override.group, names))
            continue
        problem = _no_such_choice(override, override.group, names, library)
        if problem is None:
            rest.append(override)
        else:
            place = override.origin if override.value is None else override.value.origin
            findings.append(sources.finding("J114", place, *problem))
    return Picked(tuple(choices), rest, findings)


def _no_name(override: Override, group: str, sources: Sources) -> Finding:
    """An override that can only choose a file of a group, and names none."""
    place = override.origin if override.value is None else override.value.origin
    cause = f"`{group}` is a group of files, and this is the name of none"
    return sources.finding("J114", place, cause, f"write one name, such as `{override.text.partition('=')[0]}=name`")


def _choice(override: Override, group: str, names: tuple[str, ...]) -> Choice:
    action: Literal["choose", "add", "delete"] = "choose"
    if override.action in ("add", "delete"):
        action = "add" if override.action == "add" else "delete"
    return Choice(
        action=action,
        group=group,
        package=override.package,
        names=names,
        origin=override.origin,
        override=override,
    )


def _names(override: Override) -> tuple[str, ...] | None:
    """The names that an override chooses, or None where its value cannot be a choice."""
    match override.value:
        case None | Scalar(value=None):
            return ()
        case Scalar(value=bool()):
            return None
        case Scalar(text=str(text)):
            return None if not text or "${" in text else (text,)
        case Sequence(items=items) if items:
            words = tuple(item.text for item in items if isinstance(item, Scalar) and item.text)
            return words if len(words) == len(items) else None
        case _:
            return None


def _no_such_choice(override: Override, group: str, names: tuple[str, ...], library: Library) -> tuple[str, str] | None:
    """Cause and next step for a choice that has no file, where it can mean nothing else."""
    from .layers import missing

    name = next(name for name in names if not library.has(f"{group}/{name}"))
    if not override.path:
        return missing(library, f"{group}/{name}", is_group=True)
    schema = shape.job_schema()["properties"].get(group)
    kinds = list(shape.kinds(schema)) if schema is not None else []
    if (schema is not None and not shape.is_block(schema)) or name in kinds:
        return None
    known = library.names(group)
    near = nearest(name, [*kinds, *known])
    if not known or near in kinds or name in plugins.names(group):
        return None
    hint = "" if near is None else f"did you mean `{near}`?\n"
    if kinds:
        cause = f"`{group}` has neither a kind nor a group file `{name}`"
        return cause, f"{hint}kinds: {', '.join(kinds)}\ngroup files: {', '.join(known)}"
    return f"there is no `{group}/{name}.yaml`", f"{hint}choices: {', '.join(known)}"


def is_shorthand(override: Override) -> bool:
    """Whether an override sets a block as a whole, or the one key that the block's shorthand stands for."""
    return _block(override) is not None


def block_of(override: Override) -> str | None:
    """The block that a shorthand is about, written as a group."""
    block = _block(override)
    return None if block is None or isinstance(override.value, Mapping) else "/".join(map(str, block))


def _block(override: Override) -> Path | None:
    nothing = Mapping((), DEFAULT)
    for path in (override.path, override.path[:-1]):
        schema = shape.at(path, nothing) if path else None
        short = None if schema is None else shape.shorthand(schema)
        if short is not None and override.path in (path, (*path, short)):
            return path
    return None
