"""The target `nice`: this machine, whenever nothing else wants its CPUs."""

from collections.abc import Iterator
from typing import Annotated

import msgspec
from jobc.compiler.launchers import Launcher
from jobc.compiler.plan import Command
from jobc.compiler.targets import local
from jobc.compiler.targets.base import Deployment
from jobc.spec import Finding, ResolvedSpec, finding
from jobc.spec.parts import Kind
from msgspec import Meta


class Nice(Kind, frozen=True, tag="nice"):
    """This machine, with a low priority, so that work at it stays pleasant."""

    level: Annotated[int, Meta(ge=1, le=19, description="How far the processes step back: 19 is the furthest.")] = 10


SECTION = Nice
LAUNCHERS = frozenset({"python", "torchrun"})
DEPENDS = False


def check(spec: ResolvedSpec) -> Iterator[Finding]:
    """More than one node, and files that are not here. A finding has one of jobc's codes, or one of your own."""
    if spec.job.nodes.count > 1:
        cause = f"the target `nice` is one machine, and `nodes` asks for {spec.job.nodes.count}"
        yield finding("J303", cause, place=spec.place("nodes.count"), next_step="write `nodes: 1`")
    yield from local.missing_files(spec)


def deploy(spec: ResolvedSpec, launcher: Launcher) -> Deployment:
    """What the target `local` does, with nice(1) before every command."""
    target = spec.job.target
    assert isinstance(target, Nice)
    made = local.deploy(spec, launcher)
    (node,) = made.nodes

    def nicely(command: Command) -> Command:
        return msgspec.structs.replace(command, argv=("nice", "-n", str(target.level), *command.argv))

    node = msgspec.structs.replace(node, commands=tuple(nicely(command) for command in node.commands))
    return msgspec.structs.replace(made, nodes=(node,))
