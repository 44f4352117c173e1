"""What this version of jobc carries out: the one table of kinds that a document may choose and no run has yet.

A job with such a kind is checked and planned like any other. `jobc run` refuses it, and so does the process, because a
plan can also be carried out by hand; that is how a process comes to be on a target that is planned.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from .findings import Finding, Place, finding
from .untyped import as_dict


class Planned(NamedTuple):
    """A kind without an implementation yet: the block it belongs to, its word, and what to use meanwhile."""

    block: str
    kind: str
    instead: str
    #: The launcher whose processes are scripts that have it themselves, so that the job can run.
    own: str | None = None

    @property
    def name(self) -> str:
        """The choice as a document writes it."""
        return f"{self.block}: {self.kind}"


#: Every kind that is not here has what it needs: a strategy, a number format, a target.
PLANNED: tuple[Planned, ...] = (
    Planned(
        "paradigm",
        "deepspeed",
        "use `paradigm=fsdp`, which cuts what ZeRO 3 cuts, or `launcher=deepspeed` for a script that calls DeepSpeed",
        own="deepspeed",
    ),
    Planned("paradigm", "megatron", "use `paradigm=fsdp` where the model does not fit on one device"),
    Planned("target", "sagemaker", "take what `jobc plan --format sagemaker-sdk` prints, which runs the same job"),
    Planned("precision", "fp8", "use `precision=bf16`"),
    Planned("target", "tpu_pod", "`jobc plan --format sh` writes its steps as a script that you can run"),
)


def planned_kinds(values: Mapping[str, Any], launcher: object = None) -> tuple[Planned, ...]:
    """The kinds of a resolved document, as plain data, that are planned.

    Args:
        values: the document.
        launcher: what starts the processes; kinds that its scripts have themselves are left out. None, in a process,
            leaves out nothing.
    """
    chosen = {block: (as_dict(values.get(block)) or {}).get("kind") for block in {item.block for item in PLANNED}}
    found = (item for item in PLANNED if chosen[item.block] == item.kind)
    return tuple(item for item in found if item.own is None or item.own != launcher)


def refusal(values: Mapping[str, Any], place: Place | None = None, launcher: object = None) -> Finding | None:
    """J409, one finding for all planned kinds of a document that is to run; None where there are none."""
    found = planned_kinds(values, launcher)
    if not found:
        return None
    names = " and ".join(f"`{item.name}`" for item in found)
    cause = f"{names} can be planned with this version of jobc, and not run yet"
    steps = "\n".join(item.instead for item in found)
    return finding("J409", cause, place=place, next_step=steps)
