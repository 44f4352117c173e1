"""The Python face: `jobc.load`, `jobc.plan` and `jobc.run`, the functions that the commands themselves call."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from ..compiler.compile import compile_plan
from ..compiler.plan import LaunchPlan
from ..spec import Finding, FindingsError, ResolvedSpec
from ..spec.capabilities import refusal
from ..spec.machine import count_gpus
from ..spec.resolve import Variant, resolve, resolve_sweep

if TYPE_CHECKING:
    from ..executor import Asked, Outcome, Settings


class Swept(NamedTuple):
    """One job of a sweep: its overrides, its spec and plan, or the findings that keep it from having one."""

    overrides: tuple[str, ...]
    spec: ResolvedSpec | None
    plan: LaunchPlan | None
    findings: tuple[Finding, ...]


def load(
    job: str | Path,
    overrides: Sequence[str] = (),
    *,
    env: Mapping[str, str] | None = None,
    config_dirs: Sequence[str | Path] = (),
    cwd: Path | None = None,
) -> ResolvedSpec:
    """The resolved spec of a job file.

    Args:
        job: path of `job.yaml` or `job.toml`.
        overrides: words such as `precision=bf16`, in Hydra's override grammar.
        env: the environment that `${oc.env:...}` reads; this process's when not given.
        config_dirs: folders that are searched for group files after the job's own.
        cwd: where paths in overrides start; the current folder when not given.

    Raises:
        FindingsError: everything that is wrong with the document and the overrides, at once.
    """
    env = os.environ if env is None else env
    return resolve(
        Path(job),
        tuple(overrides),
        env=env,
        cwd=Path.cwd() if cwd is None else cwd,
        count_gpus=lambda: count_gpus(env),
        config_dirs=tuple(str(name) for name in config_dirs),
    )


def sweep(
    job: str | Path,
    overrides: Sequence[str] = (),
    *,
    env: Mapping[str, str] | None = None,
    config_dirs: Sequence[str | Path] = (),
) -> tuple[Swept, ...]:
    """Every plan of a sweep, in one process: the product of the values of all overrides.

    The arguments are those of `load`; an override may have several values (`precision=bf16,fp16`). A plan that cannot
    be made has findings instead.

    Raises:
        FindingsError: the job file cannot be read, or an override cannot be taken apart.
    """
    env = os.environ if env is None else env
    variants = resolve_sweep(
        Path(job),
        tuple(overrides),
        env=env,
        cwd=Path.cwd(),
        count_gpus=lambda: count_gpus(env),
        config_dirs=tuple(str(name) for name in config_dirs),
    )
    return tuple(_planned(variant) for variant in variants)


def _planned(variant: Variant) -> Swept:
    if variant.spec is None:
        return Swept(variant.overrides, None, None, variant.findings)
    try:
        return Swept(variant.overrides, variant.spec, compile_plan(variant.spec), variant.findings)
    except FindingsError as error:
        return Swept(variant.overrides, variant.spec, None, error.findings)


def plan(job: str | Path | ResolvedSpec, overrides: Sequence[str] = ()) -> LaunchPlan:
    """The launch plan of a job file, or of a spec that `load` made.

    Raises:
        FindingsError: the job cannot be planned as written.
        TypeError: overrides were given for a spec that is resolved already.
    """
    return compile_plan(_spec(job, overrides))


def run(job: str | Path | ResolvedSpec, overrides: Sequence[str] = ()) -> Outcome:
    """Runs a job on this machine as its plan says, and waits for it.

    Output goes to this process's stdout and stderr. `Outcome.exit_code` is 0, that of the first process that failed, or
    128 and the number of the signal that ended the job.

    Raises:
        FindingsError: the job cannot be planned or started; nothing has run then.
    """
    spec = _spec(job, overrides)
    return execute_plan(compile_plan(spec), Path(spec.project_dir))


def execute_plan(
    planned: LaunchPlan,
    project_dir: Path,
    *,
    asked: Asked | None = None,
    begun: Callable[[Path], None] | None = None,
    wait: bool = True,
) -> Outcome:
    """Runs a plan with the job's folder and this interpreter.

    Without `wait` a run that something else carries out is left to it once it is submitted.

    Raises:
        FindingsError: J409, the plan is of a kind that does not run yet; or it cannot be started.
    """
    refuse_planned(planned)
    from ..executor import execute

    return execute(planned, settings_of(project_dir, asked=asked, begun=begun, wait=wait))


def settings_of(
    project_dir: Path,
    *,
    asked: Asked | None = None,
    begun: Callable[[Path], None] | None = None,
    wait: bool = True,
) -> Settings:
    """What an execution is told of this process: its environment, its interpreter, its streams."""
    from ..executor import Settings, runs_dir

    return Settings(
        project_dir=project_dir,
        env=os.environ,
        python=sys.executable,
        runs_dir=runs_dir(os.environ),
        stdout=sys.stdout,
        stderr=sys.stderr,
        color=sys.stdout.isatty(),
        argv=tuple(sys.argv),
        asked=asked,
        begun=begun,
        wait=wait,
    )


def refuse_planned(planned: LaunchPlan) -> None:
    """Says so where a plan is of a kind that this version of jobc does not run yet.

    Raises:
        FindingsError: J409.
    """
    place = next((finding.place for finding in planned.findings if finding.code == "J320"), None)
    refused = refusal(planned.spec, place, planned.spec["launcher"])
    if refused is not None:
        raise FindingsError((refused,))


def _spec(job: str | Path | ResolvedSpec, overrides: Sequence[str]) -> ResolvedSpec:
    if not isinstance(job, ResolvedSpec):
        return load(job, overrides)
    if overrides:
        raise TypeError("a resolved spec takes no overrides; give them to `load`")
    return job
