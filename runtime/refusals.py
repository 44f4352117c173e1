"""Arguments that cannot be honoured, said all at once."""

from __future__ import annotations

from typing import Any

from ..spec.findings import Finding, FindingsError, finding
from .places import caller_place


class Refusals:
    """Findings about arguments, collected so that all are said at once."""

    def __init__(self) -> None:
        self.findings: list[Finding] = []

    def refuse(self, keyword: str, cause: str, step: str) -> None:
        """Notes that an argument cannot be honoured, and what to do instead."""
        self.findings.append(finding("J507", f"{keyword}: {cause}", place=caller_place(keyword), next_step=step))

    def fixed(self, keyword: str, plugin: Any, only: dict[str, tuple[Any, str]]) -> None:
        """Notes each field of a plugin that has another value than the only one it can have, with what to do."""
        name = type(plugin).__name__
        for field, (value, step) in only.items():
            given = getattr(plugin, field)
            if given != value:
                self.refuse(keyword, f"`{name}({field}={given!r})` cannot be honoured", step)

    def end(self) -> None:
        """Raises what was noted, if anything was."""
        if self.findings:
            raise FindingsError(tuple(self.findings))
