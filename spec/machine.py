"""What jobc asks the machine that it is on: how many GPUs, for `per_node: all`, and for a run which port is free."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Mapping
from contextlib import suppress
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


#: Below those that Linux gives to connections (ip_local_port_range), of which one could take a port meanwhile.
_PORTS = range(20000, 30000)


def free_port() -> int:
    """A TCP port of this machine that nobody listens on now, another one each time.

    Raises:
        OSError: there is none.
    """
    import socket

    first = int.from_bytes(os.urandom(4), "big")
    for number in range(len(_PORTS)):
        port = _PORTS[(first + number) % len(_PORTS)]
        with suppress(OSError), socket.create_server(("", port)):
            return port
    raise OSError(errno.EADDRINUSE, "no port is free", f"{_PORTS.start} to {_PORTS.stop - 1}")
