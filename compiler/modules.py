"""Tables of modules that are imported when they are chosen: a plan needs one target and one launcher of many."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib import import_module
from typing import TypeVar, cast

Key = TypeVar("Key")
Value_co = TypeVar("Value_co", covariant=True)


class Modules(Mapping[Key, Value_co]):
    """By key, modules of a package that all implement one protocol."""

    def __init__(self, package: str, names: Mapping[Key, str]) -> None:
        self._package = package
        self._names = names

    def __getitem__(self, key: Key) -> Value_co:
        return cast("Value_co", import_module(f"{self._package}.{self._names[key]}"))

    def __iter__(self) -> Iterator[Key]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)
