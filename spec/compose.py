"""Lays documents over each other and overrides over them.

Mappings merge, lists replace. Choices (`hardware=dgx`, `paradigm=ddp`, `nodes=4`, `.kind=`) are applied before nested
overrides, whatever their order on the line. Choosing the same kind keeps the block's other keys; another kind drops
them, and says so.
"""

from __future__ import annotations

from typing import NamedTuple

from . import shape
from .choices import Choice, block_of, is_shorthand, pick
from .findings import Finding
from .groups import Document, Library
from .layers import Layer, ResolveName, Stack, stack
from .overrides import Override
from .resolved import Beaten
from .sources import Sources
from .tree import Entry, Mapping, Node, Origin, Path, Scalar, Sequence, dotted, find, leaves, plain, put


class Composed(NamedTuple):
    """A document with everything it builds on and its overrides applied, and what they replaced."""

    root: Mapping
    beaten: tuple[Beaten, ...]
    dropped: tuple[Beaten, ...]
    findings: tuple[Finding, ...]


def compose(
    job: Document, overrides: list[Override], library: Library, sources: Sources, resolve_name: ResolveName
) -> Composed:
    """The job with the documents of its defaults lists, then the overrides in their order, choices first."""
    picked = pick(overrides, library, sources)
    stacked, rest, problems = _stack(job, picked.choices, library, sources, resolve_name)
    findings = [*stacked.findings, *picked.findings, *problems]
    composer = _Composer(sources)
    for layer in stacked.layers:
        composer.add(layer)
    rest += _not_replaced(picked.rest, picked.choices, composer)
    order = {override.origin.source: number for number, override in enumerate(overrides)}
    rest.sort(key=lambda override: (not is_shorthand(override), order[override.origin.source]))
    for override in rest:
        composer.apply(override)
    findings += composer.findings
    return Composed(composer.root, tuple(composer.beaten), tuple(composer.dropped), tuple(findings))


def _stack(
    job: Document, choices: tuple[Choice, ...], library: Library, sources: Sources, resolve_name: ResolveName
) -> tuple[Stack, list[Override], list[Finding]]:
    """The layers of the job, the choices that turned out to be plain overrides, and what is wrong with others.

    A choice replaces that of a defaults list; where none chooses the group, it is added after the job's own settings.
    """
    if not job.items and not any(choice.names and choice.action != "delete" for choice in choices):
        used: frozenset[str] = frozenset()
        done = Stack((Layer(job.root, job),), used, job.findings)
    else:
        by_key = {choice.key: choice for choice in choices if choice.action != "add"}
        added = {choice.key: choice for choice in choices if choice.action == "add"}
        done = stack(job, library, sources, by_key, tuple(added.values()), resolve_name)
        used = done.used
        new = {
            key: choice
            for key, choice in by_key.items()
            if key not in used and choice.names and choice.action == "choose"
        }
        if new:
            kept = {key: choice for key, choice in by_key.items() if key not in new}
            done = stack(job, library, sources, kept, tuple((new | added).values()), resolve_name)
            used = done.used | new.keys()
    unused = [choice for choice in choices if choice.action != "add" and choice.key not in used]
    findings = [
        sources.finding(
            "J202",
            choice.origin,
            f"no defaults list chooses `{choice.key}`, so there is nothing to take away",
            "`~` takes back what the document or an earlier override set",
        )
        for choice in unused
        if not choice.override.path
    ]
    return done, [choice.override for choice in unused if choice.override.path], findings


def _not_replaced(overrides: list[Override], choices: tuple[Choice, ...], composer: _Composer) -> list[Override]:
    """The overrides without those shorthands that a later choice of a group file replaced."""
    kept: list[Override] = []
    for override in overrides:
        later = [choice for choice in choices if choice.group == block_of(override) and choice.names]
        if any(_number(choice.origin) > _number(override.origin) for choice in later) and override.value is not None:
            composer.beaten.append(Beaten(dotted(override.path), plain(override.value), override.origin))
        else:
            kept.append(override)
    return kept


def _number(origin: Origin) -> int:
    return int(origin.source.rpartition(" ")[2])


class _Composer:
    def __init__(self, sources: Sources) -> None:
        self.root = Mapping((), Origin(layer="default"))
        self.beaten: list[Beaten] = []
        self.dropped: list[Beaten] = []
        self.findings: list[Finding] = []
        self._sources = sources

    def add(self, layer: Layer) -> None:
        """Lays the settings of a document over what is there."""
        if not self.root.entries:
            self.root = layer.settings
            return
        for entry in layer.settings.entries:
            schema = shape.job_schema()["properties"].get(entry.key)
            if schema is not None and shape.is_block(schema) and _is_empty(entry.value):
                continue  # an empty block is one that was not written
            self._set((entry.key,), entry.value, entry.origin)

    def apply(self, override: Override) -> None:
        if override.action == "delete":
            self._delete(override)
        elif override.value is not None and not self._inside_a_list(override) and not self._is_there(override):
            self._set(override.path, override.value, override.origin)

    def _set(self, path: Path, value: Node, origin: Origin) -> None:
        schema = shape.job_schema()["properties"].get(path[0])
        if schema is not None and shape.shorthand(schema) is not None:
            path, value = self._choose(path, value, schema)
        old = find(self.root, path)
        merged = self._merge(old, value, path)
        root = put(self.root, path, merged, origin)
        assert isinstance(root, Mapping)  # noqa: S101 - the path is not empty
        self.root = root

    def _is_there(self, override: Override) -> bool:
        """Whether `+` adds what has a value already; mappings and lists may be added to, as in Hydra."""
        old = find(self.root, override.path)
        if override.action != "add" or old is None or not isinstance(override.value, Scalar):
            return False
        name = dotted(override.path)
        cause = f"`+` adds what is not there yet, and `{name}` has a value"
        step = f"leave the `+` out to replace it: `{override.text.lstrip('+')}`"
        related = (("the value", _value_of(old).origin),)
        self.findings.append(self._sources.finding("J208", override.origin, cause, step, related))
        return True

    def _choose(self, path: Path, value: Node, schema: shape.Schema) -> tuple[Path, Node]:
        """A choice as a change of one key of its block; keys of the kind that was left are dropped."""
        short = shape.shorthand(schema)
        assert short is not None  # noqa: S101 - the caller checked
        block = self._long(path[0], schema)
        if len(path) == 1 and isinstance(value, Scalar):
            path = (path[0], short)
        if short == "kind":
            chosen = value.get("kind") if len(path) == 1 and isinstance(value, Mapping) else value
            if path[1:] in ((), ("kind",)) and isinstance(chosen, Scalar):
                self._leave_kind(str(path[0]), block, chosen, schema)
        return path, value

    def _long(self, key: str | int, schema: shape.Schema) -> Mapping | None:
        """The block in its long form, put into the document so that a nested override finds it."""
        old = self.root.entry(str(key))
        if old is None:
            return None
        short = shape.shorthand(schema)
        if isinstance(old.value, Scalar) and old.value.value is not None and short is not None:
            long = Mapping((Entry(short, old.value.origin, old.value),), old.value.origin)
            self.root = self.root.put(Entry(old.key, old.origin, long))
            return long
        return old.value if isinstance(old.value, Mapping) else None

    def _leave_kind(self, key: str, block: Mapping | None, chosen: Scalar, schema: shape.Schema) -> None:
        if block is None:
            return
        now = block.get("kind")
        word = now.value if isinstance(now, Scalar) else schema.get("default")
        if word == chosen.value:
            return
        kept: list[Entry] = []
        for entry in block.entries:
            if entry.key == "kind":
                kept.append(entry)
                continue
            self.dropped += [
                Beaten(dotted((key, entry.key, *path)), plain(leaf), leaf.origin) for path, leaf in leaves(entry.value)
            ]
        old = self.root.entry(key)
        if old is not None:
            self.root = self.root.put(Entry(key, old.origin, Mapping(tuple(kept), block.origin)))

    def _merge(self, old: Node | None, new: Node, path: Path) -> Node:
        if isinstance(old, Mapping) and isinstance(new, Mapping):
            for entry in new.entries:
                merged = self._merge(old.get(entry.key), entry.value, (*path, entry.key))
                old = old.put(Entry(entry.key, entry.origin, merged))
            return Mapping(old.entries, new.origin)
        if old is not None:
            self.beaten += [Beaten(dotted((*path, *below)), plain(leaf), leaf.origin) for below, leaf in leaves(old)]
        return new

    def _delete(self, override: Override) -> None:
        path = override.path
        old = find(self.root, path)
        above = find(self.root, path[:-1])
        if old is None or not isinstance(above, Mapping):
            step = "`~` takes back what the document or an earlier override set"
            cause = f"`{dotted(path)}` is not set, so it cannot be removed"
            self.findings.append(self._sources.finding("J202", override.origin, cause, step))
            return
        if override.value is not None and not _same(_value_of(old), override.value):
            cause = f"`{override.text}` removes that very value, and `{dotted(path)}` has another one"
            step = f"remove it whatever it is: `~{dotted(path)}`"
            related = (("the value", _value_of(old).origin),)
            self.findings.append(self._sources.finding("J208", override.origin, cause, step, related))
            return
        self.beaten += [Beaten(dotted((*path, *below)), plain(leaf), leaf.origin) for below, leaf in leaves(old)]
        root = put(self.root, path[:-1], above.without(str(path[-1])), above.origin) if path[1:] else None
        self.root = root if isinstance(root, Mapping) else self.root.without(str(path[0]))

    def _inside_a_list(self, override: Override) -> bool:
        for length in range(1, len(override.path)):
            if isinstance(find(self.root, override.path[:length]), Sequence):
                name = dotted(override.path[:length])
                step = f"write the list as a whole: `{name}=[...]`"
                cause = f"`{name}` is a list; lists are replaced, not edited"
                self.findings.append(self._sources.finding("J202", override.origin, cause, step))
                return True
        return False


def _is_empty(node: Node) -> bool:
    return isinstance(node, Scalar) and node.value is None


def _value_of(node: Node) -> Node:
    """The one value that a block in its long form stands for, or the node itself."""
    if isinstance(node, Mapping) and len(node.entries) == 1 and isinstance(node.entries[0].value, Scalar):
        return node.entries[0].value
    return node


def _same(old: Node, new: Node) -> bool:
    """Whether two values are equal; single values also when they are written the same."""
    if isinstance(old, Scalar) and isinstance(new, Scalar):
        return old.value == new.value or old.text == new.text
    return plain(old) == plain(new)
