"""The connections of a process group on the CPU, so that a process can end what the others wait for in it.

gloo has no way to give up a collective: an abort leaves everybody waiting. A connection that closes is an error in all
who wait for it, at once; that is what happens when a process ends, and what is done here while it lives.
"""

from __future__ import annotations

import os
import socket
import stat
from collections.abc import Mapping
from contextlib import closing, suppress
from pathlib import Path

_OPEN = Path("/proc/self/fd")


def sockets() -> dict[int, int]:
    """The sockets that this process has open: the identity of each by its descriptor. Empty where nobody says."""
    if not _OPEN.is_dir():
        return {}
    found: dict[int, int] = {}
    for entry in _OPEN.iterdir():
        with suppress(OSError):  # closed since the folder was read, as the folder's own descriptor is
            status = os.fstat(int(entry.name))
            if stat.S_ISSOCK(status.st_mode):
                found[int(entry.name)] = status.st_ino
    return found


def cut(known: Mapping[int, int]) -> None:
    """Ends those of the connections that are still open, at both ends; the descriptors are left to their owner."""
    present = sockets()
    for descriptor in [descriptor for descriptor, identity in known.items() if present.get(descriptor) == identity]:
        with (
            closing(socket.socket(fileno=os.dup(descriptor))) as connection,
            suppress(OSError),
        ):  # the other end was first
            if not connection.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
                connection.shutdown(socket.SHUT_RDWR)
