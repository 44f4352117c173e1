"""The world of a process: who it is among how many, on which device, and how they talk.

This module is the only reader of the environment, and it writes nothing there.
"""

from __future__ import annotations

import atexit
import base64
import binascii
import os
import socket
import sys
import time
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import distributed as dist

from ..spec.findings import Finding, FindingsError, Place, finding
from ..spec.inherited import completed
from ..spec.model import AutoHardware, Cpu, Gpu, Hardware, Tpu
from ..spec.resolved import ResolvedSpec, decode_document, unreadable
from . import comparing, connections
from .places import origin_place
from .plugins import InitProcessGroupKwargs
from .settings import timed
from .watching import watch

_NEEDED = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
_UNSET = "start the job with `jobc run`, or unset JOBC_SPEC"
_LETTING_GO = 0.1  # seconds; the thread needs microseconds, and a turn on a busy machine
_BEFORE_FORK = 0.002  # seconds, in which threads of gloo come to rest
_COUNTS = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_PORT")


@dataclass(frozen=True, kw_only=True, slots=True)
class Rendezvous:
    """Where the processes meet. `attempt` counts restarts by the agent that started them."""

    host: str
    port: int
    agent_hosts: bool
    attempt: str


@dataclass(frozen=True, kw_only=True, slots=True)
class World:
    """Who this process is. Ranks count from 0; `backend` and `rendezvous` are None in a world of one."""

    rank: int
    size: int
    local_rank: int
    local_size: int
    device: torch.device
    backend: str | None = None
    rendezvous: Rendezvous | None = None

    @property
    def is_main(self) -> bool:
        return self.rank == 0

    @property
    def is_local_main(self) -> bool:
        return self.local_rank == 0

    @property
    def is_last(self) -> bool:
        return self.rank == self.size - 1

    @property
    def small_talk(self) -> torch.device:
        """The device of the few bytes that processes agree with: the CPU wherever the group can."""
        can = self.backend is None or "gloo" in self.backend or "mpi" in self.backend
        return torch.device("cpu") if can else self.device


class Group:
    """The process group of a world, if we opened it; nothing where it was found open, or a process is alone.

    `debug` compares calls before they run.
    """

    def __init__(
        self, world: World | None = None, options: InitProcessGroupKwargs | None = None, *, debug: bool = False
    ) -> None:
        self._world = world
        self._options = options
        self._debug = debug
        self._group: Any = None
        self._unwatch: Callable[[], None] = lambda: None
        self._connections: dict[int, int] = {}
        if world is not None:
            atexit.register(self._leave)
            _fork_in_peace()
            self._open(world)

    def _open(self, world: World) -> None:
        # Held to the end of the process: peers may still be reading from the store that this process hosts.
        self._store, found = _open_group(world)
        self._connections = found if world.device.type == "cpu" else {}
        self._group = dist.group.WORLD
        _set_timeout(self._options)
        if self._debug:
            comparing.begin()
        self._unwatch = watch.begin(self._store, world.rank, world.size, world.device)
        _OPENED.append(self)

    def close(self) -> None:
        """Destroys the group if we opened it and it is still the default one; waits for nobody."""
        self._unwatch()
        comparing.end()
        group, self._group = self._group, None
        if self in _OPENED:
            _OPENED.remove(self)
        if group is not None and dist.is_initialized() and group is dist.group.WORLD:
            dist.destroy_process_group()

    @property
    def can_be_cut(self) -> bool:
        """Whether `cut` ends what processes wait for."""
        return bool(self._connections)

    def cut(self) -> None:
        """Makes every collective of the group an error, here and in the processes that wait for this one."""
        connections.cut(self._connections)

    def reopen(self) -> None:
        """Closes the group and opens another one in its place. All processes call it together."""
        if self._world is not None:
            self.close()
            self._open(self._world)

    def _leave(self) -> None:
        # nccl may wait for peers that an exception took away; gloo waits for nobody.
        if getattr(sys, "last_value", None) is None or not torch.cuda.is_initialized():
            self.close()
        # A thread of gloo takes Python's lock to let go of a finished collective. If the interpreter is gone before it
        # gets there, the thread is ended within a destructor, the process aborts, and its exit code is lost.
        time.sleep(_LETTING_GO)


@cache
def _fork_in_peace() -> None:
    """Makes forks wait until threads of gloo are at rest.

    Such a thread makes itself known to Python when it lets go of a collective, under a lock of the interpreter. A
    process forked at that moment (a worker of a loader, say) inherits the lock and waits for it for ever: with Python
    3.11, in 3 of 16,000 forks after a collective. Asleep we leave Python's own lock to the thread: 0 of 28,000.
    """
    os.register_at_fork(before=lambda: time.sleep(_BEFORE_FORK))


#: The group that an object of ours opened in this process, where one did.
_OPENED: list[Group] = []


def opened() -> Group | None:
    """The process group of this process, if it was opened by us."""
    return _OPENED[-1] if _OPENED else None


def read_spec(env: Mapping[str, str]) -> ResolvedSpec | None:
    """The resolved spec behind `JOBC_SPEC`, or None where the process was not started by a job.

    Raises:
        FindingsError: J502, the document cannot be read.
    """
    where = env.get("JOBC_SPEC")
    if not where:
        return None
    if where.startswith("z:"):
        source = "the value of JOBC_SPEC"
        try:
            raw = zlib.decompress(base64.urlsafe_b64decode(where[2:]))
        except (binascii.Error, ValueError, zlib.error) as error:
            raise FindingsError((unreadable(source, str(error), _UNSET),)) from error
        return decode_document(raw, source)
    try:
        raw = Path(where).read_bytes()
    except OSError as error:
        raise FindingsError((unreadable(where, error.strerror or str(error), _UNSET),)) from error
    return decode_document(raw, where)


def join(
    env: Mapping[str, str],
    hardware: Hardware,
    spec: ResolvedSpec | None,
    options: InitProcessGroupKwargs | None = None,
) -> tuple[World, Group]:
    """Finds this process's world and opens the process group, unless the process is alone or a group is open already.

    Raises:
        FindingsError: J501, the world is incomplete or is not the one that the job says; J505, the device is not there.
    """
    if dist.is_available() and dist.is_initialized():
        world = _opened_elsewhere(env, hardware)
        _check_size(world, spec)
        _set_timeout(timed(options, spec))
        if world.size > 1:
            watch.begin(dist.distributed_c10d._get_default_store(), world.rank, world.size, world.device)  # noqa: SLF001
        return world, Group()
    world = read_world(env, hardware)
    if world.backend is not None and options is not None and options.backend is not None:
        world = replace(world, backend=_backend(options.backend, world.device))
    _check_size(world, spec)
    if world.device.type == "cuda":
        torch.cuda.set_device(world.device)
    if world.rendezvous is None:
        return world, Group()
    group = Group(world, timed(options, spec), debug=spec is not None and spec.job.training.debug)
    _check_size(replace(world, size=dist.get_world_size()), spec)
    return world, group


_LENT: ContextVar[Mapping[str, str] | None] = ContextVar("jobc_environment", default=None)


def environment() -> Mapping[str, str]:
    """The environment of this process, or what `lent` gives in its place."""
    return _LENT.get() or os.environ


@contextmanager
def lent(env: Mapping[str, str]) -> Iterator[None]:
    """Within it this process is told who it is by another mapping than its environment, which stays as it is."""
    token = _LENT.set(env)
    try:
        yield
    finally:
        _LENT.reset(token)


def open_world() -> World:
    """The world of the process group that is open in this process, a world of one where none is.

    It is read without talking to anyone. Places on a machine are the launcher's; without one they are taken to be the
    places in the world.
    """
    if not (dist.is_available() and dist.is_initialized()):
        return World(rank=0, size=1, local_rank=0, local_size=1, device=_current_device("nccl"))
    rank, size, backend = dist.get_rank(), dist.get_world_size(), str(dist.get_backend_config())
    local = [environment().get(name, "") for name in ("LOCAL_RANK", "LOCAL_WORLD_SIZE")]
    local_rank, local_size = map(int, local) if all(word.isdigit() for word in local) else (rank, size)
    device = _current_device(backend)
    return World(rank=rank, size=size, local_rank=local_rank, local_size=local_size, device=device, backend=backend)


def told_rank() -> tuple[int, int]:
    """This process's rank and the number of processes: of the group that is open, else as the launcher said."""
    if dist.is_available() and dist.is_initialized():
        return dist.get_rank(), dist.get_world_size()
    env = completed(environment())
    rank, size = env.get("RANK", ""), env.get("WORLD_SIZE", "")
    return (int(rank), int(size)) if rank.isdigit() and size.isdigit() else (0, 1)


def _current_device(backend: str) -> torch.device:
    cuda = "nccl" in backend and torch.cuda.is_available()
    return torch.device("cuda", torch.cuda.current_device()) if cuda else torch.device("cpu")


def read_world(env: Mapping[str, str], hardware: Hardware) -> World:
    """The world that the launcher's variables describe; a world of one where there are none.

    Raises:
        FindingsError: J501, variables are missing or make no sense; J505, the device is not there.
    """
    env = completed(env)
    present = [name for name in ("RANK", "WORLD_SIZE") if env.get(name)]
    if not present or (present == ["WORLD_SIZE"] and env["WORLD_SIZE"] == "1"):
        return World(rank=0, size=1, local_rank=0, local_size=1, device=_device(hardware, 0))
    numbers = _numbers(env)
    rank, size, local_rank, local_size, port = (numbers[name] for name in _COUNTS)
    if not (rank < size and local_rank < local_size <= size):
        said = f"RANK={rank} WORLD_SIZE={size} LOCAL_RANK={local_rank} LOCAL_WORLD_SIZE={local_size}"
        raise FindingsError((_bad_world(f"the process is told a place outside its world: {said}"),))
    device = _device(hardware, local_rank)
    if size == 1:
        return World(rank=0, size=1, local_rank=0, local_size=1, device=device)
    return World(
        rank=rank,
        size=size,
        local_rank=local_rank,
        local_size=local_size,
        device=device,
        backend="cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo",
        rendezvous=Rendezvous(
            host=env["MASTER_ADDR"],
            port=port,
            agent_hosts=env.get("TORCHELASTIC_USE_AGENT_STORE") == "True",
            attempt=env.get("TORCHELASTIC_RESTART_COUNT", "0"),
        ),
    )


def _numbers(env: Mapping[str, str]) -> dict[str, int]:
    missing = [name for name in _NEEDED if not env.get(name)]
    if missing:
        raise FindingsError((_bad_world(f"{' and '.join(missing)} {'is' if len(missing) == 1 else 'are'} not set"),))
    wrong = [f"{name}={env[name]}" for name in _COUNTS if not (env[name].isascii() and env[name].isdigit())]
    if wrong:
        raise FindingsError((_bad_world(f"{' and '.join(wrong)} is no count"),))
    return {name: int(env[name]) for name in _COUNTS}


def _opened_elsewhere(env: Mapping[str, str], hardware: Hardware) -> World:
    """The world of a process group that the user's code opened."""
    rank, size = dist.get_rank(), dist.get_world_size()
    backend, env = str(dist.get_backend_config()), completed(env)
    if env.get("LOCAL_RANK", "").isdigit() and env.get("LOCAL_WORLD_SIZE", "").isdigit():
        local_rank, local_size = int(env["LOCAL_RANK"]), int(env["LOCAL_WORLD_SIZE"])
    else:
        hosts: list[Any] = [None] * size
        dist.all_gather_object(hosts, socket.gethostname())
        local_rank, local_size = hosts[:rank].count(hosts[rank]), hosts.count(hosts[rank])
    device = _device(hardware, local_rank)
    return World(rank=rank, size=size, local_rank=local_rank, local_size=local_size, device=device, backend=backend)


def _open_group(world: World) -> tuple[Any, dict[int, int]]:
    """Opens the default process group and returns the store that it met through, and the connections that it made.

    Every attempt of the agent, and every group that a process opens after another, has keys of its own in the store:
    keys of an earlier one would send gloo to addresses where nobody listens any more.
    """
    meet = world.rendezvous
    assert meet is not None  # noqa: S101 - only a world of several opens a group
    hosting = world.rank == 0 and not meet.agent_hosts
    store = dist.TCPStore(meet.host, meet.port, is_master=hosting, wait_for_workers=False, multi_tenant=True)  # pyright: ignore[reportPrivateImportUsage]
    # Agents of several machines count their own restarts alone; the store that rank 0 hosts is new in each attempt.
    attempt = f"jobc/attempt_{meet.attempt if meet.agent_hosts else 0}"
    opened = store.add(f"{attempt}/opened_by_{world.rank}", 1)
    before = connections.sockets()
    dist.init_process_group(
        world.backend,
        store=dist.PrefixStore(f"{attempt}/group_{opened}", store),  # pyright: ignore[reportPrivateImportUsage]
        rank=world.rank,
        world_size=world.size,
        device_id=world.device if world.device.type == "cuda" else None,
    )
    return store, dict(connections.sockets().items() - before.items())


def _set_timeout(options: InitProcessGroupKwargs | None) -> None:
    if options is not None and options.timeout is not None:
        dist.distributed_c10d._set_pg_timeout(options.timeout, dist.group.WORLD)  # noqa: SLF001 - torch has no other way


def _backend(name: str, device: torch.device) -> str:
    if device.type != "cuda" and "nccl" in name:
        cause = f"kwargs_handlers: `InitProcessGroupKwargs(backend={name!r})` talks between GPUs, and this process"
        step = "leave `backend` away: gloo is taken on CPUs and nccl on GPUs"
        raise FindingsError((finding("J507", f"{cause} trains on the {device.type}", next_step=step),))
    return name


def _auto_device(local_rank: int) -> torch.device:
    return _cuda_device(local_rank) if torch.cuda.is_available() else _cpu_device(local_rank)


def _cpu_device(_local_rank: int) -> torch.device:
    return torch.device("cpu")


def _cuda_device(local_rank: int) -> torch.device:
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if local_rank >= count:
        found = "no GPU that torch can use" if count == 0 else f"only {count} GPU{'s' if count > 1 else ''}"
        cause = f"process {local_rank} of this machine needs GPU {local_rank}, and there is {found}"
        hint = "set `hardware.per_node` to what the machine has, or train with `hardware=cpu`"
        raise FindingsError((finding("J505", cause, next_step=hint),))
    return torch.device("cuda", local_rank)


def _tpu_device(_local_rank: int) -> torch.device:
    cause = "the job has `hardware: tpu`, and the Accelerator trains on GPUs and CPUs only"
    step = "train on TPUs with a script that does so itself, or choose `hardware=gpu` or `hardware=cpu`"
    raise FindingsError((finding("J505", cause, next_step=step),))


_DEVICES: dict[type, Callable[[int], torch.device]] = {
    AutoHardware: _auto_device,
    Cpu: _cpu_device,
    Gpu: _cuda_device,
    Tpu: _tpu_device,
}


def _device(hardware: Hardware, local_rank: int) -> torch.device:
    return _DEVICES[type(hardware)](local_rank)


def _check_size(world: World, spec: ResolvedSpec | None) -> None:
    if spec is None or spec.job.fits(world.size, world.local_size):
        return
    job = spec.job
    wanted = f"{job.processes} ({job.nodes.count} x {job.processes_per_node})"
    found = f"{world.size}, {world.local_size} of them on its machine"
    cause = f"the job has {wanted} processes, but this process is in a world of {found}"
    origins = {path: spec.origin(path) for path in ("nodes.count", "hardware.per_node")}
    related = tuple(
        (f"`{path}` comes from", origin_place(origin)) for path, origin in origins.items() if origin.explicit
    )
    raise FindingsError((_bad_world(cause, related),))


def _bad_world(cause: str, related: tuple[tuple[str, Place], ...] = ()) -> Finding:
    hint = "start the script with `jobc run`, with torchrun, or with plain `python` and none of their variables set"
    return finding("J501", cause, related=related, next_step=hint)
