"""What jobc can learn of the machine it plans on without asking a driver: only `per_node: all` needs it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

_GPU_FILE = re.compile(r"nvidia[0-9]+\Z")


def count_gpus(env: Mapping[str, str], dev: Path = Path("/dev")) -> int:
    """GPUs that a process started here would see: device files, narrowed by CUDA_VISIBLE_DEVICES."""
    present = sum(1 for entry in dev.iterdir() if _GPU_FILE.match(entry.name)) if dev.is_dir() else 0
    if not present and (dev / "kfd").exists():  # ROCm: one render node for each GPU
        present = sum(1 for _ in (dev / "dri").glob("renderD*"))
    visible = env.get("CUDA_VISIBLE_DEVICES")
    if visible is None:
        return present
    named = [word for word in visible.split(",") if word.strip() and word.strip() != "-1"]
    return min(present, len(named))
