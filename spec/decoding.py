"""From plain data that was checked to a typed job, also one whose target or launcher is of a plugin."""

from __future__ import annotations

from functools import cache
from typing import Any, cast, get_args

import msgspec

from .model import Job, LauncherName
from .parts import Kind
from .targets import Target
from .untyped import as_dict


def job_of(values: dict[str, Any], section: type[Kind] | None = None) -> Job:
    """The typed job of a resolved document.

    The target of a plugin is of its `section`. Where a job is only read, in a process or from a saved plan, the plugin
    need not be installed: its section is then as it was resolved.

    Raises:
        msgspec.ValidationError: the data is no job.
    """
    own, foreign = dict(values), dict[str, Any]()
    target = as_dict(own.get("target"))
    kind = None if target is None else target.get("kind")
    if target is not None and isinstance(kind, str) and kind not in _kinds():
        foreign["target"] = msgspec.convert(target, section or _as_resolved(kind, tuple(target)))
        del own["target"]
    launcher = own.get("launcher")
    if isinstance(launcher, str) and launcher not in get_args(LauncherName):
        foreign["launcher"] = launcher
        del own["launcher"]
    job = msgspec.convert(own, Job)
    return msgspec.structs.replace(job, **foreign) if foreign else job


@cache
def _kinds() -> frozenset[Any]:
    return frozenset(kind.__struct_config__.tag for kind in get_args(Target))


@cache
def _as_resolved(kind: str, keys: tuple[str, ...]) -> type[Kind]:
    fields = [(key, Any) for key in keys if key != "kind"]
    if not all(key.isidentifier() for key in keys):
        raise msgspec.ValidationError(f"`target: {kind}` has keys that are no names")
    made = msgspec.defstruct(kind, fields, bases=(Kind,), tag=kind, frozen=True, kw_only=True)
    return cast("type[Kind]", made)
