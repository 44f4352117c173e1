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
        elif override.value is None or self._inside_a_list(override) or self._is_there(override):
            return
        elif _is_empty(override.value) and self._is_block(override.path):
            self._reset(override.path)
        else:
            self._set(override.path, override.value, override.origin)

    def _is_block(self, path: Path) -> bool:
        schema = shape.at(path, self.root)
        return schema is not None and shape.is_block(schema)

    def _reset(self, path: Path) -> None:
        """A block set to null is one that nobody wrote."""
        old = find(self.root, path)
        above = find(self.root, path[:-1])
        if old is not None and isinstance(above, Mapping):
            self._remove(path, old, above)

    def _set(self, path: Path, value: Node, origin: Origin) -> None:
        """Lays a value over what is at a path; the blocks on the way keep their places."""
        for length in range(len(path) - 1, 0, -1):
            above = find(self.root, path[:length])
            where = above.origin if isinstance(above, Mapping) else origin
            value = Mapping((Entry(str(path[length]), origin, value),), where)
        self.root = self._with(self.root, Entry(str(path[0]), origin, value), path[:1])

    def _with(self, block: Mapping, entry: Entry, path: Path) -> Mapping:
        """A block with an entry laid over the one that it has."""
        old = block.entry(entry.key)
        merged = self._merge(old.value if old is not None else None, entry.value, path)
        kept = old is not None and isinstance(old.value, Mapping) and isinstance(entry.value, Mapping)
        return block.put(Entry(entry.key, old.origin if kept and old is not None else entry.origin, merged))

    def _merge(self, old: Node | None, new: Node, path: Path) -> Node:
        """Mappings merge, everything else is replaced. A word that is short for a block is that block."""
        schema = shape.at(path, self.root)
        short = shape.shorthand(schema) if schema is not None else None
        if schema is not None and short is not None:
            old, new = None if old is None else _long(old, short), _long(new, short)
            if short == "kind" and isinstance(old, Mapping) and isinstance(new, Mapping):
                old = self._leave_kind(path, old, new.get("kind"), schema)
        if isinstance(old, Mapping) and isinstance(new, Mapping):
            merged = Mapping(old.entries, new.origin)
            for entry in new.entries:
                merged = self._with(merged, entry, (*path, entry.key))
            return merged
        if old is not None:
            self._lost(old, path)
        return new

    def _lost(self, old: Node, path: Path) -> None:
        self.beaten += [Beaten(dotted((*path, *below)), plain(leaf), leaf.origin) for below, leaf in leaves(old)]

    def _leave_kind(self, path: Path, block: Mapping, chosen: Node | None, schema: shape.Schema) -> Mapping:
        """A block without the keys of the kind that is left."""
        now = block.get("kind")
        word = now.value if isinstance(now, Scalar) else schema.get("default")
        if not isinstance(chosen, Scalar) or word == chosen.value:
            return block
        for entry in block.entries:
            if entry.key != "kind":
                self.dropped += [
                    Beaten(dotted((*path, entry.key, *below)), plain(leaf), leaf.origin)
                    for below, leaf in leaves(entry.value)
                ]
        return Mapping(tuple(entry for entry in block.entries if entry.key == "kind"), block.origin)

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
            cause = f"`{override.text}` removes that very value, and here `{dotted(path)}` is another one"
            step = f"remove it whatever it is: `~{dotted(path)}`"
            related = (("the value", _value_of(old).origin),)
            self.findings.append(self._sources.finding("J208", override.origin, cause, step, related))
            return
        self._remove(path, old, above)

    def _remove(self, path: Path, old: Node, above: Mapping) -> None:
        self._lost(old, path)
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


def _long(node: Node, short: str) -> Node:
    """A word that is short for a block, as that block."""
    if isinstance(node, Scalar) and node.value is not None:
        return Mapping((Entry(short, node.origin, node),), node.origin)
    return node


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
