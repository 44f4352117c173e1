"""The `sh` form of a plan: a bash script that runs the job where jobc is not at hand."""

from __future__ import annotations

from collections.abc import Mapping

from .plan import (
    CallApi,
    Command,
    LaunchPlan,
    NodeGroup,
    PackFiles,
    Ref,
    Report,
    RunCommand,
    RunForNodes,
    StartNodes,
    Step,
    Text,
    WriteFile,
    canonical,
)
from .quoting import shell, shell_command
from .rendering import template

_ENDED = ("succeeded", "failed", "stopped")


def render_shell(plan: LaunchPlan, here: Mapping[str, str]) -> str:
    """The script.

    Args:
        plan: the plan.
        here: values that this machine gives to placeholders (`project_dir`, `python`); the script's reader may
            replace them by setting a variable of that name.
    """
    document = canonical(plan.document()).decode()
    return template("local/run.sh.j2").render(
        plan=plan,
        here=[(name, shell(value)) for name, value in here.items()],
        logs=None if plan.output.folder is None else shell(plan.output.folder),
        steps=[_step(step, plan, document) for step in plan.submit],
        remote=any(command.host is not None for group in plan.nodes for command in group.commands),
        per_node=_uses(plan, "rank"),
        uses_port=_uses(plan, "port"),
        packed_spec=plan.packed_document() if _uses(plan, "packed_spec") else None,
        uses_run_word=_uses(plan, "run_word"),
    )


def _step(step: Step, plan: LaunchPlan, document: str) -> dict[str, object]:
    match step:
        case WriteFile():
            content = (
                step.content
                if isinstance(step.content, str)
                else tuple(document if part == Ref("spec") else part for part in step.content)
            )
            return {
                "kind": "write",
                "path": shell(step.path),
                "folder": _folder(step.path),
                "print": _print(content),
                "mode": f"{step.mode:o}",
            }
        case PackFiles():
            names = [shell(name) for name in step.files]
            return {"kind": "pack", "path": shell(step.path), "folder": _folder(step.path), "names": names}
        case RunCommand():
            captures = [(capture.name, shell(capture.pattern)) for capture in step.captures]
            return {"kind": "run", "line": shell_command(step.command, step.timeout), "captures": captures}
        case CallApi():
            raise ValueError("a call of an API has no form in a shell")
        case Report() if step.every is not None:
            words = {
                good: [
                    word for word, state in step.states.items() if (state == "succeeded") == good and state in _ENDED
                ]
                for good in (True, False)
            }
            return {"kind": "wait", "line": shell_command(step.command), "pattern": shell(step.pattern),
                    "good": words[True], "bad": words[False], "every": f"{step.every:g}"}  # fmt: skip
        case Report():
            return {"kind": "run", "line": shell_command(step.command), "captures": []}
        case RunForNodes():
            groups = [_group(group, (step.command,), None) for group in plan.nodes]
            return {"kind": "each", "groups": groups, "at_once": step.at_once}
        case StartNodes():
            groups = [_group(group, group.commands, step.timeout) for group in plan.nodes]
            return {"kind": "start", "groups": groups, "output": plan.nodes[0].commands[0].output}


def _folder(path: Text) -> str | None:
    """The folder of a file, where it is one in the run's folder that has to be made."""
    if isinstance(path, str) or not isinstance(path[-1], str) or path[-1].count("/") < 2:
        return None
    return shell((*path[:-1], path[-1].rpartition("/")[0]))


def _print(content: Text) -> str:
    """The command that prints a text. No word of a shell holds a null byte, but printf can end words with one."""
    if isinstance(content, str) and content.endswith("\0"):
        return " ".join(["printf '%s\\0'", *(shell(word) for word in content[:-1].split("\0"))])
    return f"printf '%s' {shell(content)}"


def _group(group: NodeGroup, commands: tuple[Command, ...], timeout: float | None) -> dict[str, object]:
    return {
        "first": group.first,
        "hosts": [shell(host) for host in group.hosts],
        "processes": group.processes,
        "commands": [
            {
                "line": shell_command(command, timeout),
                "output": command.output,
                "rank": command.ranks[0] if command.ranks else 0,
                "stdin": None if command.stdin is None else shell(command.stdin),
            }
            for command in commands
        ],
    }


def _uses(plan: LaunchPlan, name: str) -> bool:
    """Whether a command of a step or of a node, or a file, has a placeholder."""
    commands = [command for group in plan.nodes for command in group.commands]
    commands += [step.command for step in plan.submit if isinstance(step, RunCommand | RunForNodes | Report)]
    texts = [text for one in commands for text in (*one.argv, *one.env.values(), one.stdin or "")]
    texts += [step.content for step in plan.submit if isinstance(step, WriteFile)]
    return any(
        isinstance(part, Ref) and part.ref == name for text in texts if not isinstance(text, str) for part in text
    )
