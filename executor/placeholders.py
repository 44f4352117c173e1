"""Placeholders: what a plan leaves open until it runs, filled in."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path

import msgspec

from ..compiler.plan import (
    CallApi,
    Command,
    LaunchPlan,
    Name,
    PackFiles,
    Ref,
    Report,
    RunCommand,
    RunForNodes,
    Step,
    Text,
    WriteFile,
    canonical,
)
from ..spec.inherited import inherited
from ..spec.machine import free_port
from .nodes import node_commands


class Values:
    """The values of all placeholders of one run; the port is looked for when it is first asked for."""

    def __init__(
        self,
        plan: LaunchPlan,
        run_dir: Path,
        project_dir: Path,
        python: str,
        pid: int,
        env: Mapping[str, str] | None = None,
        captured: Mapping[str, str] | None = None,
        earlier: Mapping[str, str] | None = None,
        elements: Sequence[Path] = (),
    ) -> None:
        self._plan = plan
        self._elements = elements
        self._earlier: Mapping[str, str] = earlier or {}
        self.captured: dict[str, str] = dict(captured or {})
        self._env: Mapping[str, str] = env or {}
        self._known: dict[Name, str] = {
            "run_id": run_dir.name,
            "run_word": run_word(run_dir.name),
            "run_dir": str(run_dir),
            "project_dir": str(project_dir),
            "python": python,
            "pid": str(pid),
        }

    @cached_property
    def _spec(self) -> str:
        return canonical(self._plan.document()).decode()

    @cached_property
    def _inherited(self) -> Mapping[str, str]:
        place = inherited(self._env)
        return {} if place is None else place.variables

    @cached_property
    def _port(self) -> str:
        return str(free_port())

    @cached_property
    def _packed_spec(self) -> str:
        return self._plan.packed_document()

    def value(self, part: Ref) -> str:
        """What a placeholder stands for."""
        match part.ref:
            case "spec":
                found = self._spec
            case "packed_spec":
                found = self._packed_spec
            case "port":
                found = self._port
            case "inherited":
                found = self._inherited[part.name]
            case "secret":
                found = self._env[part.name]
            case "captured":
                found = self.captured[part.name]
            case "earlier":
                found = self._earlier[part.name]
            case "element":
                found = str(self._elements[int(part.name)])
            case name:
                found = self._known[name]
        return shlex.quote(found) if part.quote else found

    @property
    def restarts(self) -> int:
        """How often all processes of the job may start again."""
        nodes = self._plan.spec.get("nodes", {})
        return int(nodes.get("max_restarts", 0))

    def fill(self, text: Text) -> str:
        """The text with its placeholders replaced; nothing else in it has a meaning."""
        if isinstance(text, str):
            return text
        return "".join(part if isinstance(part, str) else self.value(part) for part in text)

    def argv(self, command: Command) -> list[str]:
        """The argument vector of a command."""
        return [self.fill(item) for item in command.argv]

    def env(self, command: Command) -> dict[str, str]:
        """The variables that a command adds."""
        return {name: self.fill(text) for name, text in command.env.items()}

    def placed(self, command: Command) -> Command:
        """The command with the rank that it has, where that is what this process was told."""
        told = Ref("inherited", name="RANK")
        if command.env.get("RANK") != (told,):
            return command
        return msgspec.structs.replace(command, ranks=(int(self.value(told)),))

    @property
    def project_dir(self) -> Path:
        """The job's folder on this machine."""
        return Path(self._known["project_dir"])

    def cwd(self, command: Command) -> Path:
        """The folder in which a command starts: the project's, or one relative to it, or an absolute one."""
        return Path(self._known["project_dir"], self.fill(command.cwd or ""))

    def path(self, step: WriteFile | PackFiles) -> Path:
        """Where a file is written; a relative path lies in the run's folder."""
        return Path(self._known["run_dir"], self.fill(step.path))


_WORD = 40  # characters; schedulers append to names that may have 63


def run_word(run_id: str) -> str:
    """A run's id as one label of a DNS name: lower-case letters, digits and `-`, its end kept where it is too long."""
    label = re.sub(r"[^a-z0-9]+", "-", run_id.lower()).strip("-")
    return label if len(label) <= _WORD and label[:1].isalpha() else f"r{label[-_WORD + 1 :]}"


def commands(plan: LaunchPlan, step: Step) -> tuple[Command, ...]:
    """The commands that a step starts."""
    if isinstance(step, WriteFile | PackFiles | CallApi):
        return ()
    if isinstance(step, RunCommand | Report):
        return (step.command,)
    if isinstance(step, RunForNodes):
        return tuple(node_commands(plan, step.command))
    return tuple(node_commands(plan))


def asks_for(plan: LaunchPlan, steps: tuple[Step, ...], name: Name) -> bool:
    """Whether a command of the steps has a certain placeholder in its arguments or environment."""
    texts = [
        text for step in steps for command in commands(plan, step) for text in (*command.argv, *command.env.values())
    ]
    return any(Ref(name) in text for text in texts if not isinstance(text, str))


def absolute(path: Path) -> Path:
    """The path made absolute against the current folder, without following links."""
    return Path(os.path.abspath(path))  # noqa: PTH100  (Path.absolute keeps `..`)
