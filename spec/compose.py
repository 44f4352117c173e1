"""Lays overrides over a document.

Mappings merge, lists replace. Choices (`paradigm=ddp`, `nodes=4`, `.kind=`) are applied before nested overrides,
whatever their order on the line. Choosing the same kind keeps the block's other keys; another kind drops them, and
says so.
"""

from __future__ import annotations

from typing import NamedTuple

from . import shape
from .findings import Finding
from .overrides import Override
from .resolved import Beaten
from .sources import Sources
from .tree import Entry, Mapping, Node, Path, Scalar, Sequence, dotted, find, leaves, plain, put


class Composed(NamedTuple):
    """A document with its overrides applied, and what they replaced."""

    root: Mapping
    beaten: tuple[Beaten, ...]
    dropped: tuple[Beaten, ...]
    findings: tuple[Finding, ...]


def compose(root: Mapping, overrides: list[Override], sources: Sources) -> Composed:
    """The document with the overrides applied in their order, choices first."""
    composer = _Composer(root, sources)
    for override in sorted(overrides, key=lambda override: not _is_choice(override)):
        composer.apply(override)
    return Composed(composer.root, tuple(composer.beaten), tuple(composer.dropped), tuple(composer.findings))


def _is_choice(override: Override) -> bool:
    """Whether an override sets a block as a whole, or its kind."""
    schema = shape.job_schema()["properties"].get(override.path[0])
    if schema is None or shape.shorthand(schema) is None:
        return False
    return len(override.path) == 1 or override.path[1:] == (shape.shorthand(schema),)


class _Composer:
    def __init__(self, root: Mapping, sources: Sources) -> None:
        self.root = root
        self.beaten: list[Beaten] = []
        self.dropped: list[Beaten] = []
        self.findings: list[Finding] = []
        self._sources = sources

    def apply(self, override: Override) -> None:
        if override.action == "delete":
            self._delete(override)
            return
        path, value = override.path, override.value
        if self._inside_a_list(override):
            return
        schema = shape.job_schema()["properties"].get(path[0])
        if schema is not None and shape.shorthand(schema) is not None:
            path, value = self._choose(path, value, schema)
        old = find(self.root, path)
        merged = self._merge(old, value, path)
        root = put(self.root, path, merged, override.origin)
        assert isinstance(root, Mapping)  # noqa: S101 - the path is not empty
        self.root = root

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
