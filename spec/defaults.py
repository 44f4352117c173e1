"""Reads a `defaults:` list: which documents and group files a document builds on, in which order.

The forms are Hydra's: `_self_`, `base`, `group: name`, `group: [a, b]`, `group: null`, `group@package: name`, and the
words `optional` and `override` before a group.
"""

from __future__ import annotations

import re

import msgspec

from .findings import Finding, did_you_mean
from .sources import Sources
from .tree import Mapping, Node, Origin, Scalar, Sequence

_TARGET = re.compile(r"(?P<name>/?[^@\s]+?)(?:@(?P<package>[^@\s:]+))?\Z")
_FORMS = "`_self_`, `base` (base.yaml beside this file) or `hardware: dgx` (hardware/dgx.yaml)"


class Item(msgspec.Struct, frozen=True, kw_only=True):
    """One entry of a defaults list.

    `group` is None for a document. `names` are the chosen files: one, several, or none (`group: null`).
    `number` is its place in the list.
    """

    group: str | None
    names: tuple[str, ...]
    package: str | None = None
    optional: bool = False
    override: bool = False
    origin: Origin
    number: int = 0

    @property
    def is_self(self) -> bool:
        """Whether it stands for the document's own settings."""
        return self.group is None and self.names == ("_self_",)


def read_items(written: Node, sources: Sources) -> tuple[tuple[Item, ...], list[Finding]]:
    """The entries of a defaults list in their order, and a finding (J115) for each that has no known form."""
    if isinstance(written, Scalar) and written.value is None:
        return (), []
    if not isinstance(written, Sequence):
        cause = "`defaults` is a list of what this document builds on"
        return (), [sources.finding("J115", written.origin, cause, f"an entry is {_FORMS}")]
    items: list[Item] = []
    findings: list[Finding] = []
    for number, node in enumerate(written.items):
        read = _item(node, number, sources)
        if isinstance(read, Item):
            findings += _order(items, read, sources)
            items.append(read)
        else:
            findings.append(read)
    return tuple(items), findings


def _order(before: list[Item], item: Item, sources: Sources) -> list[Finding]:
    if item.is_self and any(other.is_self for other in before):
        first = next(other.origin for other in before if other.is_self)
        cause = "`_self_` stands twice in this defaults list"
        return [sources.finding("J115", item.origin, cause, "keep one of them", (("the first one", first),))]
    if not item.override and not item.is_self and any(other.override for other in before):
        cause = "this entry stands behind an `override`"
        return [sources.finding("J115", item.origin, cause, "move every `override` to the end of the list")]
    return []


def _item(node: Node, number: int, sources: Sources) -> Item | Finding:
    if isinstance(node, Scalar) and isinstance(node.value, str):
        return _document(node, node.value, number, sources)
    if not isinstance(node, Mapping) or len(node.entries) != 1:
        cause = "an entry of a defaults list is a word, or a group with its choice"
        return sources.finding("J115", node.origin, cause, f"write {_FORMS}")
    entry = node.entries[0]
    *keywords, target = entry.key.split() or [""]
    unknown = [word for word in keywords if word not in ("optional", "override")]
    match = _TARGET.match(target)
    if unknown or match is None:
        known = did_you_mean(unknown[0], ["optional", "override"]) if unknown else None
        cause = f"`{entry.key}` does not name a group"
        step = known or "a group is `hardware`, `group@package`, or either after `optional` or `override`"
        return sources.finding("J115", entry.origin, cause, step)
    names = _names(entry.value)
    if names is None:
        cause = f"the choice of the group `{match['name']}` is a name, a list of names, or null"
        return sources.finding("J115", entry.value.origin, cause, f"for example `{entry.key}: small`")
    return Item(
        group=match["name"],
        names=names,
        package=match["package"],
        optional="optional" in keywords,
        override="override" in keywords,
        origin=entry.value.origin,
        number=number,
    )


def _document(node: Scalar, text: str, number: int, sources: Sources) -> Item | Finding:
    match = _TARGET.match(text)
    if match is None or (match["name"] == "_self_" and match["package"] is not None):
        cause = f"`{text}` names neither a document nor a group"
        return sources.finding("J115", node.origin, cause, f"write {_FORMS}")
    return Item(group=None, names=(match["name"],), package=match["package"], origin=node.origin, number=number)


def _names(value: Node) -> tuple[str, ...] | None:
    if isinstance(value, Sequence):
        items = [item for item in value.items if isinstance(item, Scalar) and item.value is not None]
        return tuple(item.text for item in items) if len(items) == len(value.items) else None
    if isinstance(value, Scalar):
        return () if value.value is None else (value.text,)
    return None
