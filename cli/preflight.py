"""The preflight of `jobc check`: asks the machines of a job, and shows what they said as a table."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ..spec.findings import Finding

if TYPE_CHECKING:
    from ..compiler.plan import LaunchPlan
    from ..executor.preflight import Report
    from ..spec import ResolvedSpec


def examine(spec: ResolvedSpec, plan: LaunchPlan) -> tuple[tuple[Report, ...], tuple[Finding, ...]]:
    """What every machine of a plan said, and what speaks against running the job there.

    Raises:
        FindingsError: the machines cannot be asked.
    """
    from ..executor import Settings, runs_dir
    from ..executor.fitness import unfit
    from ..executor.preflight import ask

    settings = Settings(
        project_dir=Path(spec.project_dir),
        env=os.environ,
        python=sys.executable,
        runs_dir=runs_dir(os.environ),
        stdout=sys.stdout,
        stderr=sys.stderr,
    )
    reports = ask(plan, settings)
    return reports, unfit(plan, spec, reports)


def table(reports: Sequence[Report]) -> str:
    """The machines, one a line."""
    head = ("node", "machine", "python", "torch", "devices", "memory", "disk", "clock")
    rows = [head, *(_row(report) for report in reports if not report.gate)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(head))]
    lines = ("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows)
    return "\n".join(lines)


def _row(report: Report) -> tuple[str, ...]:
    from ..executor.fitness import amount

    said = report.said
    if said is None:
        return (str(report.node), report.host, *("-",) * 6)
    count, kind = (said.cpus, "CPU") if said.gpus is None else (said.gpus, "GPU")
    return (
        str(report.node),
        report.host,
        said.python,
        said.torch or "none",
        f"{count} {kind}{'s' if count != 1 else ''}",
        "-" if said.memory is None else amount(said.memory),
        amount(said.disk),
        f"{round(report.clock or 0.0, 1) + 0.0:+.1f} s",
    )
