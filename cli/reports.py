"""Findings in the forms that programs read: JSON, SARIF 2.1.0 and the workflow commands of GitHub."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Sequence
from pathlib import PurePath
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from ..spec.codes import CODES
from ..spec.findings import Finding, Place

if TYPE_CHECKING:
    from ..executor.preflight import Report

_LEVELS = {"error": "error", "warning": "warning", "hint": "note"}
_COMMANDS = {"error": "error", "warning": "warning", "hint": "notice"}


def failed(findings: Iterable[Finding]) -> bool:
    """Whether the job cannot be honoured: hints and warnings do not fail it."""
    return any(finding.severity == "error" for finding in findings)


def as_json(job: str, findings: tuple[Finding, ...], reports: Sequence[Report] | None = None) -> str:
    """One object: the job, whether it is good, its findings, and what its machines said where they were asked."""
    import msgspec

    listed = [{"title": CODES[finding.code].title, **msgspec.to_builtins(finding)} for finding in findings]
    machines = {} if reports is None else {"machines": msgspec.to_builtins(reports)}
    return _dumped({"job": job, "ok": not failed(findings), "findings": listed, **machines})


def _dumped(value: dict[str, Any]) -> str:
    """JSON in whole characters, also where a path is no UTF-8."""
    text = json.dumps(value, indent=2, ensure_ascii=False)
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


# --- SARIF ----------------------------------------------------------------------------------------------------------


def as_sarif(job: str, findings: tuple[Finding, ...], version: str) -> str:
    """A SARIF 2.1.0 log with one run; its rules are the codes that were found, from the catalogue."""
    codes = sorted({finding.code for finding in findings})
    driver = {"name": "jobc", "version": version, "rules": [_rule(code) for code in codes]}
    run = {
        "tool": {"driver": driver},
        "columnKind": "unicodeCodePoints",
        "invocations": [{"executionSuccessful": True, "exitCode": 2 if failed(findings) else 0}],
        "results": [_result(finding, codes.index(finding.code), job) for finding in findings],
    }
    log = {"$schema": "https://json.schemastore.org/sarif-2.1.0.json", "version": "2.1.0", "runs": [run]}
    return _dumped(log)


def _rule(code: str) -> dict[str, Any]:
    from ..spec.pages import page

    entry = CODES[code]
    found = page(code)
    return {
        "id": code,
        "shortDescription": {"text": entry.title},
        "fullDescription": {"text": found.meaning},
        "help": {"text": f"{found.advice} (jobc explain {code})"},
        "defaultConfiguration": {"level": _LEVELS[entry.severity]},
    }


def _result(finding: Finding, index: int, job: str) -> dict[str, Any]:
    result: dict[str, Any] = {
        "ruleId": finding.code,
        "ruleIndex": index,
        "level": _LEVELS[finding.severity],
        "message": {"text": _message(finding)},
        "locations": [_location(finding.place, job)],
    }
    if finding.related:
        result["relatedLocations"] = [
            {"id": number, **_location(place, job), "message": {"text": label}}
            for number, (label, place) in enumerate(finding.related, 1)
        ]
    return result


def _location(place: Place | None, job: str) -> dict[str, Any]:
    """A place in a file; an override has no file, so it is named and the job file stands for it."""
    in_file = place is not None and _in_file(place)
    artifact: dict[str, Any] = {"artifactLocation": {"uri": _uri(place.source if place and in_file else job)}}
    if place is None:
        return {"physicalLocation": artifact}
    if not in_file:
        named = {"name": str(place), "fullyQualifiedName": place.excerpt or str(place), "kind": "parameter"}
        return {"physicalLocation": artifact, "logicalLocations": [named]}
    region: dict[str, Any] = {"startLine": place.line}
    if place.column is not None:
        region |= {"startColumn": place.column, "endColumn": place.column + place.length}
    if place.excerpt is not None:
        region["snippet"] = {"text": place.excerpt}
    return {"physicalLocation": {**artifact, "region": region}}


def _in_file(place: Place) -> bool:
    """Whether a place is in a file of the user's: an override is in none, a preset in one of ours."""
    return place.line is not None and not place.source.startswith("preset ")


def _uri(path: str) -> str:
    pure = PurePath(path)
    quoted = quote(os.fsencode(pure.as_posix()))
    return f"file://{quoted}" if pure.is_absolute() else quoted


# --- GitHub ---------------------------------------------------------------------------------------------------------


def as_github(job: str, findings: tuple[Finding, ...]) -> str:
    """A workflow command for each finding, which GitHub shows beside the line."""
    return "\n".join(_workflow_command(finding, job) for finding in findings)


def _workflow_command(finding: Finding, job: str) -> str:
    place = finding.place
    where: dict[str, object] = {"file": job}
    if place is not None and _in_file(place):
        where = {"file": place.source, "line": place.line}
        if place.column is not None:
            where |= {"col": place.column, "endColumn": place.column + place.length}
    where["title"] = finding.code
    listed = ",".join(f"{key}={_property(str(value))}" for key, value in where.items())
    return f"::{_COMMANDS[finding.severity]} {listed}::{_data(_message(finding))}"


def _message(finding: Finding) -> str:
    """The cause and the next step; for an override also its text, which no file shows."""
    place = finding.place
    said = ""
    if place is not None and not _in_file(place) and place.excerpt is not None:
        said = f"{place} `{place.excerpt.strip()}`: "
    step = f"\n{finding.next_step}" if finding.next_step else ""
    return f"{said}{finding.cause}{step}"


# Source: actions/toolkit, packages/core/src/command.ts, escapeData and escapeProperty.
def _data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")
