"""The script that SageMaker starts in the container of each node."""

from __future__ import annotations

import posixpath
import re

import msgspec

from ...spec import ResolvedSpec
from ..launchers import Launcher
from ..launchers.base import Site
from ..plan import Command, Name, Ref, Text
from ..quoting import node_command, shell
from .request import CHECKPOINTS, CODE, facts, settings

PROJECT = "/opt/ml/code"
#: SageMaker gives each job a network of its own, so that no port is taken.
_PORT = "29500"
#: What the script finds out.
_KNOWN: frozenset[Name] = frozenset({"node", "head", "rank", "run_id"})


def commands(spec: ResolvedSpec, launcher: Launcher) -> tuple[Command, ...]:
    """What runs on a node, with the variables that SageMaker's images set; its output goes to CloudWatch."""
    usual = _variables(spec)
    return tuple(
        msgspec.structs.replace(command, env={**usual, **command.env}, output="elsewhere")
        for command in launcher.node_commands(spec, _site(spec))
    )


def _variables(spec: ResolvedSpec) -> dict[str, Text]:
    """Where data and results are, by the names that scripts for SageMaker know, and the network adapter's."""
    target = settings(spec)
    data = {f"SM_CHANNEL_{re.sub(r'[^A-Z0-9]', '_', name.upper())}": name for name in target.channels}
    return {
        "SM_MODEL_DIR": "/opt/ml/model",
        "SM_OUTPUT_DATA_DIR": "/opt/ml/output/data",
        **{name: f"/opt/ml/input/data/{channel}" for name, channel in data.items()},
        **facts().variables(target.instance_type or "."),
    }


def _site(spec: ResolvedSpec) -> Site:
    several = spec.job.nodes.count > 1
    return Site(
        node=(Ref("node"),) if several else "0",
        python="python3",
        project=PROJECT,
        logs=("/opt/ml/output/data/logs/node_", Ref("node")),
        spec=f"{CODE}/spec.json",
        address=(Ref("head"),) if several else "127.0.0.1",
        port=_PORT,
        output="stream",
    )


def script(spec: ResolvedSpec, node: tuple[Command, ...]) -> str:
    """The script."""
    from ..rendering import template  # jinja2 is imported by what renders

    lines = [[_line(line) for line in node_command(command, _KNOWN)] for command in node]
    used = {name for name in ("per_node", "run_id") if any(name in line for each in lines for line in each)}
    return template("sagemaker/node.sh.j2").render(
        name=spec.job.name,
        nodes=spec.job.nodes.count,
        per_node=spec.job.processes_per_node,
        project=PROJECT,
        code=CODE,
        checkpoints=_checkpoints(spec),
        commands=lines,
        used=used | ({"per_node"} if len(node) > 1 else set()),
    )


def _checkpoints(spec: ResolvedSpec) -> dict[str, str] | None:
    """The folder that SageMaker keeps in S3, and where the job looks for it."""
    if settings(spec).checkpoint_s3 is None:
        return None
    there = posixpath.normpath(posixpath.join(PROJECT, spec.job.training.checkpoint.folder))
    return None if there == CHECKPOINTS else {"kept": CHECKPOINTS, "link": shell(there)}


def _line(line: Text) -> str:
    if not isinstance(line, str):
        if any(isinstance(part, Ref) for part in line):
            raise ValueError(f"a command of a node asks for what no node of SageMaker knows: {line}")
        return "".join(part for part in line if isinstance(part, str))
    return line
