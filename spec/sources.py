"""The texts that a job was read from, so that a finding can show the line it speaks of."""

from __future__ import annotations

from collections.abc import Sequence

from .findings import Finding, Place, finding
from .tree import Origin


class Sources:
    """Texts by the name they are shown under. Grows while a job is loaded; findings take their excerpts from it."""

    def __init__(self) -> None:
        self._lines: dict[str, Sequence[str]] = {}

    def add(self, name: str, text: str) -> None:
        """Remember a text: a whole file, or one override."""
        self._lines[name] = text.splitlines() or [""]

    def lines(self, name: str) -> Sequence[str]:
        """The lines of a text; none for a name that is not known."""
        return self._lines.get(name, ())

    def place(self, origin: Origin) -> Place:
        """The origin as a place with its excerpt."""
        lines = self._lines.get(origin.source)
        number = origin.line or 1
        excerpt = lines[number - 1] if lines is not None and origin.column and number <= len(lines) else None
        return Place(
            source=origin.source or origin.layer,
            line=origin.line,
            column=origin.column,
            length=origin.length,
            excerpt=excerpt,
        )

    def finding(
        self,
        code: str,
        origin: Origin | None,
        cause: str,
        next_step: str | None = None,
        related: tuple[tuple[str, Origin], ...] = (),
    ) -> Finding:
        """A finding at an origin."""
        return finding(
            code,
            cause,
            place=None if origin is None else self.place(origin),
            next_step=next_step,
            related=tuple((label, self.place(other)) for label, other in related),
        )
