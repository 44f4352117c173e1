"""Seeds."""

from __future__ import annotations

import random
from collections.abc import Collection
from numbers import Integral

import torch

from ..spec.findings import FindingsError, finding
from .collectives import Collectives
from .places import caller_place
from .world import open_world

_SEEDS = 2**32  # NumPy knows no others


def set_seed(
    seed: int,
    device_specific: bool = False,  # noqa: FBT001, FBT002 - the signature that scripts have
    deterministic: bool = False,  # noqa: FBT001, FBT002 - the same
) -> None:
    """Seeds Python, torch on every device, and NumPy where it is installed. `seed` is between 0 and 2**32 - 1.

    With `device_specific` each process gets a seed of its own, `seed` plus its index. `deterministic` makes torch
    refuse operations that give other numbers each time.

    Raises:
        FindingsError: J507, the seed is no such number.
    """
    if not isinstance(seed, Integral) or not 0 <= seed < _SEEDS:
        step = "use a whole number between 0 and 2**32 - 1"
        raise FindingsError((finding("J507", f"seed: `{seed!r}` is no seed", place=caller_place(), next_step=step),))
    if device_specific:
        seed = (seed + open_world().rank) % _SEEDS
    if deterministic:
        refuse_chance()
    torch.manual_seed(seed)
    _seed_others(seed)


def refuse_chance() -> None:
    """Makes torch refuse operations that give other numbers each time, and choose algorithms without trying them."""
    torch.use_deterministic_algorithms(mode=True)
    torch.backends.cudnn.benchmark = False


def reseed(number: int) -> None:
    """Seeds Python, torch on the CPU and NumPy with any number that is not negative."""
    torch.default_generator.manual_seed(number)
    _seed_others(number % _SEEDS)


def share_generators(kinds: Collection[str], collectives: Collectives, device: torch.device) -> None:
    """Gives every process the state of the first one's global generators, of `torch` on the CPU and of `cuda`."""
    states = {"torch": torch.get_rng_state()} if "torch" in kinds else {}
    if "cuda" in kinds and device.type == "cuda":
        states["cuda"] = torch.cuda.get_rng_state(device)
    states = collectives.broadcast(states)
    if "torch" in states:
        torch.set_rng_state(states["torch"])
    if "cuda" in states:
        torch.cuda.set_rng_state(states["cuda"], device)


def _seed_others(seed: int) -> None:
    random.seed(seed)
    try:
        import numpy as np  # noqa: PLC0415 - only a job with a seed pays for it
    except ImportError:  # training does not need NumPy
        return
    np.random.seed(seed)


def mixed(seed: int, *numbers: int) -> int:
    """One number below 2**63 from a seed and others, so that (7, 1) and (8, 0) do not meet as they would in a sum."""
    state = seed
    for number in numbers:
        state = (state * 6364136223846793005 + number * 1442695040888963407 + 1013904223) % 2**63
        state ^= state >> 29
    return state
