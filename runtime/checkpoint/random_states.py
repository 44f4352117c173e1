"""The random states of a process: Python's, NumPy's, torch's on the CPU and on the process's own device."""

from __future__ import annotations

import random
import sys
from typing import Any

import torch

from ..seed import mixed


def states(device: torch.device) -> dict[str, Any]:
    """The state of every generator that the process has, by name. NumPy's is there if NumPy is imported."""
    found: dict[str, Any] = {"python": random.getstate(), "torch": torch.get_rng_state()}
    numpy = sys.modules.get("numpy")
    if numpy is not None:
        found["numpy"] = numpy.random.get_state()
    if device.type == "cuda":
        found["cuda"] = torch.cuda.get_rng_state(device)
    return found


def put(found: dict[str, Any], device: torch.device) -> None:
    """Makes generators go on from these states; one that the process does not have stays away."""
    if "python" in found:
        random.setstate(found["python"])
    if "torch" in found:
        torch.set_rng_state(found["torch"])
    if "numpy" in found:
        import numpy as np  # noqa: PLC0415 - the process that saved had it

        np.random.set_state(found["numpy"])
    if "cuda" in found and device.type == "cuda":
        torch.cuda.set_rng_state(found["cuda"], device)


def seed_anew(names: set[str], seed: int, step: int, rank: int, device: torch.device) -> None:
    """Seeds generators whose states are those of other processes: differently in each process and after each step."""
    number = mixed(seed, step, rank + 1)
    if "python" in names:
        random.seed(number)
    if "torch" in names:
        torch.default_generator.manual_seed(number)
    if "numpy" in names:
        import numpy as np  # noqa: PLC0415 - the process that saved had it

        np.random.seed(number % 2**32)
    if "cuda" in names and device.type == "cuda":
        torch.cuda.manual_seed(number)
