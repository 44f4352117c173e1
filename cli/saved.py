"""Where a plan comes from when it is not made: a file that `jobc plan -o` wrote, or the record of a run."""

from __future__ import annotations

import os
from pathlib import Path

from ..compiler.plan import LaunchPlan
from ..compiler.saved import SUFFIX, from_file, not_a_plan, spec_of, to_file
from ..spec import FindingsError, ResolvedSpec, finding
from ..spec.findings import Place


def is_saved(word: str) -> bool:
    """Whether a word of the command line names a saved plan."""
    return word.endswith(SUFFIX)


def read(word: str) -> tuple[LaunchPlan, ResolvedSpec]:
    """A saved plan and the spec that it was made from.

    Raises:
        FindingsError: J405, the file cannot be read or is no plan as it was written.
    """
    path = Path(word)
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise FindingsError((not_a_plan(word, error.strerror or str(error)),)) from error
    plan = from_file(raw, word)
    return plan, spec_of(plan, Path(os.path.abspath(path.parent / plan.project_dir)))  # noqa: PTH100 - links stay


def of_run(word: str) -> tuple[LaunchPlan, ResolvedSpec]:
    """The plan of a run, named by its id, the beginning of it, or `last`, and its spec.

    Raises:
        FindingsError: J407, there is no such run; J408, its record or its plan cannot be read.
    """
    from ..executor import runs_dir
    from ..executor.registry import find, record_of

    run_dir = find(runs_dir(os.environ), word)
    plan = plan_of(run_dir)
    return plan, spec_of(plan, Path(record_of(run_dir).project_dir))


def plan_of(run_dir: Path) -> LaunchPlan:
    """The plan that a run carries out.

    Raises:
        FindingsError: J408, it cannot be read.
    """
    from ..compiler.plan import decode
    from ..executor.registry import unreadable

    try:
        return decode((run_dir / "plan.json").read_bytes())
    except (OSError, ValueError) as error:  # msgspec's errors are ValueErrors
        raise unreadable(run_dir, str(error)) from error


def write(plan: LaunchPlan, spec: ResolvedSpec, word: str) -> None:
    """Write a plan to a file, whole or not at all.

    Raises:
        FindingsError: J405, the file cannot be written, or its name is not one that `jobc run` takes for a plan's.
    """
    from ..executor.files import write_atomically

    path = Path(word)
    if not is_saved(word):
        step = f"give it a name that ends in `{SUFFIX}`, by which `jobc run` knows a plan"
        cause = "a saved plan is JSON"
        raise FindingsError((finding("J405", cause, place=Place(source=word), next_step=step),))
    try:
        write_atomically(path, to_file(plan, path, Path(spec.project_dir)))
    except OSError as error:
        cause = f"the plan cannot be written: {error.strerror}"
        step = "name a file in a folder that exists and that you may write"
        raise FindingsError((finding("J405", cause, place=Place(source=word), next_step=step),)) from error


def refuse_overrides(word: str, overrides: tuple[str, ...]) -> None:
    """A saved plan is final.

    Raises:
        FindingsError: J202, there are overrides.
    """
    if overrides:
        cause = f"`{overrides[0]}` would change a plan that is made already"
        step = "give it to `jobc plan`, which makes another one"
        raise FindingsError((finding("J202", cause, place=Place(source=word), next_step=step),))
