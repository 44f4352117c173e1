"""Accelerate's configuration keys beside the paths of a job's document: a table that is data, read when asked for."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import msgspec

KEYS_FILE = Path(__file__).with_name("accelerate_keys.toml")


class Key(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What became of a key: the `path` that says the same, with a `note` on what differs, or `why` there is none."""

    path: str = ""
    note: str = ""
    why: str = ""


class Block(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The keys that stand together in a file."""

    title: str
    keys: dict[str, Key]


@cache
def blocks() -> dict[str, Block]:
    """Every block of keys by its name; `top` has those of the file itself, `flags` what no file has."""
    import tomllib

    return msgspec.convert(tomllib.loads(KEYS_FILE.read_text(encoding="utf-8")), dict[str, Block])
