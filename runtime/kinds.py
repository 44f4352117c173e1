"""Accelerate's words for kinds of worlds."""

from __future__ import annotations

from enum import Enum

from ..spec.model import Fsdp, Paradigm
from .world import World


class DistributedType(str, Enum):  # noqa: UP042 - Accelerate's prints as DistributedType.NO, a StrEnum would not
    """How processes are spread and how they talk. jobc itself answers with the first three and `FSDP`.

    `TPU` is the older name of `XLA`.
    """

    NO = "NO"
    MULTI_CPU = "MULTI_CPU"
    MULTI_GPU = "MULTI_GPU"
    MULTI_NPU = "MULTI_NPU"
    MULTI_MLU = "MULTI_MLU"
    MULTI_SDAA = "MULTI_SDAA"
    MULTI_MUSA = "MULTI_MUSA"
    MULTI_XPU = "MULTI_XPU"
    DEEPSPEED = "DEEPSPEED"
    FSDP = "FSDP"
    XLA = "XLA"
    TPU = "XLA"  # noqa: PIE796 - the older name
    MEGATRON_LM = "MEGATRON_LM"
    MULTI_HPU = "MULTI_HPU"
    MULTI_NEURON = "MULTI_NEURON"


#: By the kind of device.
_SEVERAL = {"cpu": DistributedType.MULTI_CPU, "cuda": DistributedType.MULTI_GPU}


#: By the paradigm, where that says more than the device does.
_PARADIGMS: dict[type, DistributedType] = {Fsdp: DistributedType.FSDP}


def kind_of_job(paradigm: Paradigm | None, world: World) -> DistributedType:
    """The kind of a job: its paradigm's word above one process, else that of its world."""
    kind = kind_of_world(world)
    return kind if world.size == 1 else _PARADIGMS.get(type(paradigm), kind)


def kind_of_world(world: World) -> DistributedType:
    """The kind of a world in which every process holds the whole model."""
    return DistributedType.NO if world.size == 1 else _SEVERAL[world.device.type]
