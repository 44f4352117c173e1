"""Training processes started from a notebook, or from any Python that is running already."""

from __future__ import annotations

import base64
import multiprocessing
import os
import sys
import time
import zlib
from collections.abc import Callable, Mapping, Sequence
from multiprocessing import connection
from typing import Any

import msgspec
import torch
from torch import distributed as dist

from ..spec.findings import FindingsError, JobcError, finding
from ..spec.machine import free_port
from ..spec.model import Job
from ..spec.resolved import ResolvedSpec
from ..spec.tree import Origin
from . import tracebacks, world
from .places import caller_place
from .settings import PRECISIONS
from .who_used_cuda import who_used_cuda

_HOST = "127.0.0.1"
#: Seconds that processes have to tell their own errors after the first one failed, and to end when told to.
_GRACE = 3.0


class ProcessFailedError(JobcError):
    """A process that a launcher started has failed; the text is its traceback, or how it ended."""


def notebook_launcher(
    function: Callable[..., Any],
    args: Sequence[Any] = (),
    num_processes: int | None = None,
    mixed_precision: str | None = None,
    use_port: str | int | None = None,
) -> None:
    """Runs a training function in several processes of this machine and waits for them.

    The Accelerator is made within the function. With one process the function runs here. Several are forked, so that
    they have everything that is defined here; where a device is in use already that cannot be forked, they are started
    anew and given the function by cloudpickle. This process's environment stays as it is.

    Args:
        function: Called with `args` in every process.
        args: Its arguments.
        num_processes: How many; None is one for each GPU, or one.
        mixed_precision: `no`, `bf16` or `fp16` for Accelerators that do not say it; None leaves it to them.
        use_port: The TCP port on which they meet; None takes a free one.

    Raises:
        FindingsError: J507, an argument has an impossible value; J513, the GPUs are in use by this process so that no
            others can be started, or it is in a process group itself.
        ProcessFailedError: A process failed; the others were ended, and the text is its traceback.
    """
    gpus = torch.cuda.device_count()
    count = (gpus or 1) if num_processes is None else num_processes
    _check(function, args, count, mixed_precision)
    env = {"JOBC_SPEC": _document("gpu" if gpus else "cpu", count, mixed_precision)}
    if count == 1:
        with world.lent({**os.environ, **env}):
            function(*args)
        return
    if gpus and torch.cuda.is_initialized():
        raise _cuda_in_use(function)
    start(function, args, count, env, port=use_port, method="spawn" if _in_use() else "fork")


def debug_launcher(function: Callable[..., Any], args: Sequence[Any] = (), num_processes: int = 2) -> None:
    """Runs a training function in several processes on the CPU, to find mistakes without GPUs.

    Raises:
        FindingsError: J507, an argument has an impossible value; J513, this process is in a process group itself.
        ProcessFailedError: A process failed; the others were ended, and the text is its traceback.
    """
    _check(function, args, num_processes, None)
    env = {"JOBC_SPEC": _document("cpu", num_processes, None)}
    start(function, args, num_processes, env, method="spawn" if _in_use() else "fork")


def start(
    function: Callable[..., Any],
    args: Sequence[Any],
    count: int,
    env: Mapping[str, str],
    *,
    port: str | int | None = None,
    method: str = "fork",
) -> None:
    """Runs a function in processes that `fork` or `spawn` makes, with variables added to their environment."""
    if method == "spawn":
        import cloudpickle  # noqa: PLC0415 - only who starts processes anew pays for it

        function = _Carried(cloudpickle.dumps((function, args)))
        args = ()
    context: Any = multiprocessing.get_context(method)
    meet = {"MASTER_ADDR": _HOST, "MASTER_PORT": str(port or free_port())}
    meet |= {"WORLD_SIZE": str(count), "LOCAL_WORLD_SIZE": str(count), **env}
    sys.stdout.flush()
    sys.stderr.flush()
    ends: list[Any] = []
    processes: list[Any] = []
    for rank in range(count):
        ours, theirs = context.Pipe(duplex=False)
        own = {**meet, "RANK": str(rank), "LOCAL_RANK": str(rank)}
        process = context.Process(target=_run, args=(function, tuple(args), own, theirs), name=f"rank {rank}")
        process.start()
        theirs.close()
        ends.append(ours)
        processes.append(process)
    try:
        _watch(processes, ends)
    finally:
        _end(processes)


class _Carried:
    """A function with its arguments, pickled by value."""

    def __init__(self, raw: bytes) -> None:
        self.raw = raw

    def __call__(self) -> None:
        import cloudpickle  # noqa: PLC0415 - only who is started anew pays for it

        function, args = cloudpickle.loads(self.raw)
        function(*args)


def _run(function: Callable[..., Any], args: tuple[Any, ...], env: dict[str, str], report: Any) -> None:
    """What a process does: it takes its place, calls the function and reports how that ended."""
    os.environ.update(env)  # of this new process; that is how every launcher tells a process who it is
    torch.set_num_threads(1)  # as torchrun does; a forked process must not wait for its parent's threads
    try:
        function(*args)
    except BaseException as error:  # noqa: BLE001 - the parent raises it
        if not (isinstance(error, SystemExit) and error.code in (None, 0)):
            report.send((time.monotonic(), tracebacks.text(error)))
            os._exit(1)
    if dist.is_available() and dist.is_initialized():
        dist.destroy_process_group()
    sys.stdout.flush()
    sys.stderr.flush()


def _watch(processes: list[Any], ends: list[Any]) -> None:
    """Waits until all have ended well.

    Raises:
        ProcessFailedError: One has not; of several, the one that failed first.
    """
    running = {process.sentinel: process for process in processes}
    while running:
        for sentinel in connection.wait(list(running)):
            process = running.pop(sentinel)  # pyright: ignore[reportArgumentType]
            process.join()
            if process.exitcode:
                raise ProcessFailedError(_first_failure(processes, ends))


def _first_failure(processes: list[Any], ends: list[Any]) -> str:
    deadline = time.monotonic() + _GRACE
    for process in processes:
        process.join(max(0.0, deadline - time.monotonic()))
    told: list[tuple[float, int, str]] = []
    for rank, end in enumerate(ends):
        if end.poll():
            try:
                when, text = end.recv()
            except EOFError:  # it ended without a word
                continue
            told.append((when, rank, text))
    signalled = [rank for rank, process in enumerate(processes) if (process.exitcode or 0) < 0]
    if signalled:  # it could not tell, and what the others tell is that it is gone
        rank = signalled[0]
        return f"process {rank} of {len(processes)} was ended by signal {-processes[rank].exitcode}"
    if not told:
        codes = [process.exitcode for process in processes]
        return f"processes ended with the exit codes {codes}"
    _, rank, text = min(told)
    return f"process {rank} of {len(processes)} failed\n\n{text}"


def _end(processes: list[Any]) -> None:
    for process in processes:
        if process.is_alive():
            process.terminate()
    deadline = time.monotonic() + _GRACE
    for process in processes:
        process.join(max(0.0, deadline - time.monotonic()))
        if process.is_alive():
            process.kill()
            process.join()
        process.close()


def _check(function: object, args: object, count: int, precision: str | None) -> None:
    if not callable(function):
        raise _refused("function", f"`{function!r}` cannot be called", "give it the training function")
    if isinstance(args, str | bytes) or not isinstance(args, Sequence):
        step = f"write `args=({args!r},)`, with a comma" if isinstance(args, str | int | float) else "use a tuple"
        raise _refused("args", f"`{args!r}` is no sequence of arguments", step)
    if not isinstance(count, int) or count < 1:
        raise _refused("num_processes", f"`{count}` is no number of processes", "use 1 or more")
    if precision is not None and precision not in PRECISIONS:
        raise _refused("mixed_precision", f"`{precision}` is not a precision", f"use one of {', '.join(PRECISIONS)}")
    if count > 1 and dist.is_available() and dist.is_initialized():
        cause = "this process is in a process group, so it cannot start processes that make one of their own"
        step = "make the Accelerator within the function; restart the notebook's kernel if one was made outside"
        raise FindingsError((finding("J513", cause, next_step=step),))


def _document(hardware: str, count: int, precision: str | None) -> str:
    """The job that the processes are told, as the value of JOBC_SPEC."""
    job = msgspec.convert(
        {
            "name": "notebook",
            "hardware": {"kind": hardware, "per_node": count},
            "precision": {"kind": precision or "no"},
            "paradigm": {"kind": "ddp" if count > 1 else "none"},
        },
        Job,
    )
    said = Origin(layer="override", source="notebook_launcher(mixed_precision=...)")
    spec = ResolvedSpec(job=job, origins={} if precision is None else {"precision.kind": said})
    raw = zlib.compress(msgspec.json.encode(spec.document()))
    return "z:" + base64.urlsafe_b64encode(raw).decode()


def _in_use() -> bool:
    """Whether a forked process would share a device, or threads, with this one that cannot be shared."""
    xpu = hasattr(torch, "xpu") and torch.xpu.is_initialized()
    return not sys.platform.startswith("linux") or torch.cuda.is_initialized() or xpu


def _cuda_in_use(function: Callable[..., Any]) -> FindingsError:
    found = who_used_cuda(function)
    cause = "CUDA is in use by this process, and GPUs cannot be shared with processes that it starts"
    step = "restart the notebook's kernel and touch no GPU before the launcher" + (f":\n{found}" if found else "")
    return FindingsError((finding("J513", cause, next_step=step),))


def _refused(keyword: str, cause: str, step: str) -> FindingsError:
    return FindingsError((finding("J507", f"{keyword}: {cause}", place=caller_place(keyword), next_step=step),))
