"""Plain data of unknown shape, narrowed to containers that a type checker can follow."""

from __future__ import annotations

from typing import Any, cast


def as_dict(value: object) -> dict[str, Any] | None:
    """The value when it is a dictionary, else None."""
    return cast("dict[str, Any]", value) if isinstance(value, dict) else None


def as_list(value: object) -> list[Any] | None:
    """The value as a list when it is a list or a tuple, else None."""
    return list(cast("list[Any]", value)) if isinstance(value, list | tuple) else None
