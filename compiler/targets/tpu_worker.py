"""What each machine of a slice is given: a script that starts its processes, says how they are, and ends them.

The machine finds out by itself which one of the slice it is, so that all get the same script.
"""

from __future__ import annotations

import posixpath
from functools import cache
from pathlib import Path

import msgspec

from ...spec import ResolvedSpec
from ...spec.hardware import Tpu
from ..launchers import Launcher
from ..launchers.base import Site, joined
from ..plan import Command, Name, Ref, Text
from ..quoting import node_command, script_word
from .local import time_limit

_BODY = Path(__file__).parent.parent.parent / "templates" / "tpu_pod" / "worker.sh"
_KNOWN_THERE: frozenset[Name] = frozenset({"node", "head", "rank"})


def site(spec: ResolvedSpec) -> Site:
    """Where things are on a machine, from the folder of the script."""
    several = spec.job.nodes.count > 1
    return Site(
        node=(Ref("node"),) if several else "0",
        python="python3",
        project="files",
        logs=posixpath.relpath("logs", posixpath.join("files", spec.job.workdir)),
        spec=(Ref("packed_spec"),),
        address=(Ref("head"),) if several else "127.0.0.1",
        output="stream",
    )


def worker_commands(spec: ResolvedSpec, launcher: Launcher) -> tuple[Command, ...]:
    """The launcher's commands with what TPUs need to know; the job's own variables win."""
    hardware = spec.job.hardware
    told: dict[str, Text] = {"PJRT_DEVICE": "TPU"}
    if isinstance(hardware, Tpu) and hardware.runtime == "torch_tpu" and spec.job.nodes.count > 1:
        told |= {"TPU_WORKER_ID": (Ref("node"),), "JOB_COMPLETION_INDEX": (Ref("node"),)}
    commands = launcher.node_commands(spec, site(spec))
    return tuple(msgspec.structs.replace(command, env={**told, **command.env}) for command in commands)


def worker_script(spec: ResolvedSpec, launcher: Launcher) -> Text:
    """The script."""
    commands = worker_commands(spec, launcher)
    limit = time_limit(spec)
    tagged = spec.job.processes == 1 or all(command.output == "tagged" for command in commands)
    lines: list[Text] = [
        "#!/bin/bash",
        "# One machine of a slice of TPUs. Arguments: start, state, logs, follow or stop.",
        joined("run=", script_word((Ref("run_id"),))),
        f"nodes={spec.job.nodes.count} per_node={spec.job.processes_per_node} processes={len(commands)}",
        joined("address=", script_word(spec.job.nodes.rendezvous.address or "")),
        f"limit={script_word('' if limit is None else f'{limit:g}')} tagged={'yes' if tagged else 'no'}",
    ]
    for index, command in enumerate(commands):
        named = ('export TPU_WORKER_HOSTNAMES="$workers"',) if "TPU_WORKER_ID" in command.env else ()
        run = ("set -e", *named, *node_command(command, _KNOWN_THERE))
        lines += [f"process_{index}() {{", *(joined("  ", text) for text in run), "}"]
    return joined(*(part for text in lines for part in (text, "\n")), _body())


@cache
def _body() -> str:
    return _BODY.read_text(encoding="utf-8")
