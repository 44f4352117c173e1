"""What jobc says about an input it cannot honour: findings with a stable code, a place, a cause and a next step.

A finding is data. `render` turns one into the text that a person reads; the command line decides about colour.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from .codes import CODES

Severity = Literal["error", "warning", "hint"]


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """Where in a source a finding points: 1-based line and column; `excerpt` is the offending line itself.

    An override has no line, only a column in its own text.
    """

    source: str
    line: int | None = None
    column: int | None = None
    length: int = 1
    excerpt: str | None = None

    def __str__(self) -> str:
        if self.line is None:
            return self.source
        return f"{self.source}:{self.line}:{self.column}"


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One error, warning or hint.

    `cause` says what is wrong in one sentence, `next_step` what to do about it, `related` other places that matter
    (the first of two duplicate keys, the setting that is contradicted).
    """

    code: str
    severity: Severity
    cause: str
    place: Place | None = None
    next_step: str | None = None
    related: tuple[tuple[str, Place], ...] = ()

    def render(self) -> str:
        """The finding as plain text, several lines, no trailing newline."""
        lines = [f"{self.severity}[{self.code}]: {self.cause}"]
        if self.place is not None:
            lines += _draw(self.place)
        for label, place in self.related:
            lines.append(f"  {label}")
            lines += _draw(place)
        if self.next_step is not None:
            lines += [f"  {line}" for line in self.next_step.splitlines()]
        return "\n".join(lines)


def finding(
    code: str,
    cause: str,
    *,
    place: Place | None = None,
    next_step: str | None = None,
    related: tuple[tuple[str, Place], ...] = (),
) -> Finding:
    """A finding whose severity is the one that its code has in the catalogue.

    Raises:
        KeyError: the code is not in the catalogue; that is a mistake in jobc, not in a job.
    """
    return Finding(
        code=code,
        severity=CODES[code].severity,
        cause=cause,
        place=place,
        next_step=next_step,
        related=related,
    )


def did_you_mean(word: str, known: list[str]) -> str | None:
    """`did you mean `x`?` for the nearest of the known names, or None when none is near."""
    near = nearest(word, known)
    return f"did you mean `{near}`?" if near is not None else None


def nearest(word: str, known: list[str]) -> str | None:
    """The known name nearest to the word, or None when none is near (difflib ratio of at least 0.6)."""
    from difflib import get_close_matches

    matches = get_close_matches(word.lower(), known, n=1, cutoff=0.6)
    return matches[0] if matches else None


class JobcError(Exception):
    """The root of every exception that jobc raises on purpose."""


class FindingsError(JobcError):
    """A job cannot be honoured as written; `findings` says why, all at once.

    The command line prints the findings and exits with status 2.
    """

    def __init__(self, findings: tuple[Finding, ...]) -> None:
        super().__init__("\n\n".join(item.render() for item in findings))
        self.findings = findings


_WIDEST_EXCERPT = 120


def _draw(place: Place) -> list[str]:
    lines = [f"  {place}"]
    if place.excerpt is None:
        return lines
    excerpt, column = _window(place.excerpt, place.column or 1)
    number = "" if place.line is None else f"{place.line} "
    room = max(1, len(excerpt) - column + 1)
    lines.append(f"  {number}| {excerpt}".rstrip())
    lines.append(f"  {' ' * len(number)}| {' ' * (column - 1)}{'^' * min(max(place.length, 1), room)}")
    return lines


def _window(text: str, column: int) -> tuple[str, int]:
    """The part of a line around a column that fits a terminal, and the column within it."""
    text = text.replace("\t", " ")
    text = "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in text)
    if len(text) <= _WIDEST_EXCERPT:
        return text, column
    start = max(0, column - 1 - _WIDEST_EXCERPT // 2)
    return text[start : start + _WIDEST_EXCERPT], column - start
