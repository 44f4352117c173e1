"""The `sh` form of a plan: a bash script that runs the job where jobc is not at hand."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from .plan import LaunchPlan, Ref, RunCommand, RunTogether, StartNodes, Step, WriteFile, canonical
from .quoting import shell, shell_command

_TEMPLATES = Path(__file__).parent.parent / "templates"


def render_shell(plan: LaunchPlan, here: Mapping[str, str]) -> str:
    """The script.

    Args:
        plan: the plan.
        here: values that this machine gives to placeholders (`project_dir`, `python`); the script's reader may
            replace them by setting a variable of that name.
    """
    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        undefined=StrictUndefined,
        autoescape=False,  # noqa: S701 - shell text, quoted by `quoting`
        variable_start_string="@{",  # jinja's own marks mean something in bash
        variable_end_string="}@",
        comment_start_string="@{#",
        comment_end_string="#}@",
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    document = canonical(plan.document()).decode()
    return environment.get_template("local/run.sh.j2").render(
        plan=plan,
        here=[(name, shell(value)) for name, value in here.items()],
        steps=[_step(step, plan, document) for step in plan.submit],
        uses_port=_uses(plan, "port"),
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
                "content": shell(content),
                "mode": f"{step.mode:o}",
            }
        case RunCommand():
            return {"kind": "run", "line": shell_command(step.command)}
        case RunTogether():
            return {"kind": "run", "line": "; ".join(f"({shell_command(command)})" for command in step.commands)}
        case StartNodes():
            commands = [command for index in step.nodes for command in plan.nodes[index].commands]
            lines = [
                {"line": shell_command(command), "output": command.output, "rank": command.ranks[0]}
                for command in commands
            ]
            return {"kind": "start", "commands": lines}


def _uses(plan: LaunchPlan, name: str) -> bool:
    texts = [
        text for node in plan.nodes for command in node.commands for text in (*command.argv, *command.env.values())
    ]
    return any(part == Ref(name) for text in texts if not isinstance(text, str) for part in text)  # pyright: ignore[reportArgumentType]
