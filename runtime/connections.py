"""Connections between the processes of a job, looked at from below.

gloo has no way to give up a collective: an abort leaves everybody waiting. A connection that closes is an error in all
who wait for it, at once; that is what happens when a process ends, and what `cut` does while it lives.

A store that is asked after its host has ended prints pages about it before it raises; a `Line` knows it before.
"""

from __future__ import annotations

import os
import select
import socket
import stat
from collections.abc import Mapping
from contextlib import closing, suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

from torch import distributed as dist

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
            suppress(OSError),  # the other end was first, and its owner may have closed it since it was looked at
            closing(socket.socket(fileno=os.dup(descriptor))) as connection,
        ):
            if not connection.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
                connection.shutdown(socket.SHUT_RDWR)


class Line:
    """A connection of one's own to the store that processes met in, for a thread that must not hold up the others.

    `name` keeps its keys apart from those of other lines.
    """

    def __init__(self, store: Any, name: str, rank: int, patience: timedelta) -> None:
        before = sockets()
        own = store.clone()
        self._sockets = sockets().items() - before.items()
        own.set_timeout(patience)
        number = own.add(f"jobc/{name}/opened_by_{rank}", 1)
        self.store: Any = dist.PrefixStore(f"jobc/{name}/{number}", own)  # pyright: ignore[reportPrivateImportUsage]

    @property
    def is_dead(self) -> bool:
        """Whether the process that holds the store is gone. Nothing is ever said on this line unasked, but its end."""
        look = select.poll()
        for descriptor, _ in self._sockets:
            look.register(descriptor, select.POLLIN)
        return bool(self._sockets and look.poll(0))


def reaches_others(store: Any) -> bool:
    """Whether a store is one that a `Line` can be made to."""
    while isinstance(store, dist.PrefixStore):  # pyright: ignore[reportPrivateImportUsage]
        store = store.underlying_store
    return isinstance(store, dist.TCPStore)  # pyright: ignore[reportPrivateImportUsage]
