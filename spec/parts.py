"""What blocks of the document are made of."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Never

import msgspec

from .untyped import as_dict, as_list


class FrozenDict(dict[str, Any]):
    """A dictionary that refuses to change, so that a frozen document is frozen all the way down."""

    if not TYPE_CHECKING:  # a type checker sees a dictionary; the refusal is for running code

        def _refuse(self, *_: object, **__: object) -> Never:
            raise TypeError("a resolved document does not change; make a new one")

        __setitem__ = __delitem__ = __ior__ = _refuse
        clear = pop = popitem = setdefault = update = _refuse

    def __hash__(self) -> int:  # type: ignore[override]
        return hash(tuple(sorted(self.items())))


class Part(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A block of the document."""


class Kind(Part, frozen=True, tag_field="kind"):
    """A block that is one of several kinds; `kind` says which."""


def derived(sentence: str) -> dict[str, Any]:
    """Marks a field that jobc fills in when the document does not: from what, in a few words."""
    return {"x-derived": sentence}


def form(sentence: str) -> dict[str, Any]:
    """Says in words what a pattern asks for, for people who do not read regular expressions."""
    return {"x-form": sentence}


def freeze(value: Any) -> Any:
    """The same plain data with read-only dictionaries and tuples."""
    block, items = as_dict(value), as_list(value)
    if block is not None:
        return FrozenDict({key: freeze(item) for key, item in block.items()})
    return value if items is None else tuple(freeze(item) for item in items)
