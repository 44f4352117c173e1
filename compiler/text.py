"""The text form of a plan: calm, aligned, one screen for an ordinary job, and the whole truth."""

from __future__ import annotations

import json
import shutil
import textwrap
from collections.abc import Iterable, Iterator

import msgspec

from ..spec import Finding, ResolvedSpec
from ..spec.untyped import as_dict, as_list
from .plan import CallApi, Command, LaunchPlan, NodeGroup, Ref, WriteFile
from .quoting import plain, shown, shown_argv
from .steps import line, node_names, request_lines

_LABEL = 11  # columns before the text: two, the label, one or more
_NAMED = 8  # machines that are named before they are counted
_REPEATED = 4  # commands of a node that are shown before they are folded


def render_text(
    plan: LaunchPlan,
    spec: ResolvedSpec,
    again: str,
    *,
    color: bool,
    width: int | None = None,
    files: bool = False,
) -> str:
    """The plan for a person.

    Args:
        plan: the plan.
        spec: the spec it was made from, for origins and the values that lost.
        again: the command line that runs exactly this plan.
        color: whether to use ANSI colours; without them defaults are told apart by their place alone.
        width: columns to fit; the terminal's when not given.
        files: whether to show what is written into files.
    """
    width = width or terminal_width()
    paint = Paint(color=color)
    blocks = [
        [_headline(plan, spec, paint)],
        *body(plan, spec, paint, width),
        *(_contents(plan, paint) if files else ()),
        list(findings_block(plan.findings, paint)),
        [f"  {paint.dim(again)}"],
    ]
    return joined(blocks)


def terminal_width() -> int:
    """Columns to fill: the terminal's, but no wider than a person reads."""
    return min(shutil.get_terminal_size((100, 24)).columns, 140)


def joined(blocks: Iterable[list[str]]) -> str:
    """Blocks of lines with a blank line between them."""
    return "\n" + "\n\n".join("\n".join(block) for block in blocks if block) + "\n"


def body(
    plan: LaunchPlan, spec: ResolvedSpec, paint: Paint, width: int, hidden: frozenset[str] = frozenset()
) -> list[list[str]]:
    """What the plan is made of: document, steps, the commands of each node, the environment that jobc adds.

    The values at the paths in `hidden` are left out.
    """
    return [
        list(_document(spec, paint, width, hidden)),
        list(_steps(plan, paint)),
        *_nodes(plan, paint),
        *_requests(plan, paint),
        list(_adds(plan, paint)),
    ]


class Paint:
    """ANSI styles, or none."""

    def __init__(self, *, color: bool) -> None:
        self._color = color

    def dim(self, text: str) -> str:
        return f"\x1b[2m{text}\x1b[0m" if self._color else text

    def bold(self, text: str) -> str:
        return f"\x1b[1m{text}\x1b[0m" if self._color else text

    def warn(self, text: str) -> str:
        return f"\x1b[33m{text}\x1b[0m" if self._color else text

    def gone(self, text: str) -> str:
        return f"\x1b[31m{text}\x1b[0m" if self._color else text

    def come(self, text: str) -> str:
        return f"\x1b[32m{text}\x1b[0m" if self._color else text


def label(word: str, paint: Paint) -> str:
    """What stands before a line: a word in the margin, or its width in spaces."""
    return "  " + paint.bold(word) + " " * max(2, _LABEL - len(word))


def _headline(plan: LaunchPlan, spec: ResolvedSpec, paint: Paint) -> str:
    job = spec.job
    hardware = type(job.hardware).__struct_config__.tag
    device = "process" if hardware == "auto" else hardware
    count = job.nodes.count
    total = plan.processes
    sum_ = f"{count} node{'s' if count > 1 else ''} x {job.processes_per_node} {device}"
    processes = f"{total} process{'es' if total > 1 else ''}"
    target = type(job.target).__struct_config__.tag
    return f"  {paint.bold(plan.name)}   plan {plan.digest[:8]}   {sum_} = {processes}   target {target}"


def _document(spec: ResolvedSpec, paint: Paint, width: int, hidden: frozenset[str]) -> Iterator[str]:
    """Values that somebody set or that follow from them, and how many are mere defaults."""
    values = {path: value for path, value in flat_values(spec) if path not in hidden}
    set_ = {path: value for path, value in values.items() if spec.origin(path).layer != "default"}
    lost = {item.path: item for item in spec.beaten}
    paths = [_short(path) for path in set_]
    column = min(max((len(path) for path in paths), default=0), 36)
    texts = [one_line(value, width) for value in set_.values()]
    wide = min(max((len(text) for text in texts), default=0), 30)
    margin = "document"
    for path, name, text in zip(set_, paths, texts, strict=True):
        beaten = lost.get(path)
        was = f"   was {one_line(beaten.value, width)} ({beaten.origin})" if beaten is not None else ""
        line = f"{name:<{column}}  {text:<{wide}}  {spec.origin(path)}{was}"
        yield (label(margin, paint) + line).rstrip()
        margin = ""
    rest = len(values) - len(set_)
    yield label(margin, paint) + paint.dim(f"... {rest} defaults (jobc explain)")


def flat_values(spec: ResolvedSpec) -> Iterator[tuple[str, object]]:
    """Every value of the document with its path, lists of words as one."""
    return _flat(spec.values(), "", spec)


def _flat(value: object, path: str, spec: ResolvedSpec) -> Iterator[tuple[str, object]]:
    """Leaves by path; a list of words whose parts all come from one place stays one line."""
    block, items = as_dict(value), as_list(value)
    if block:
        for key, item in block.items():
            yield from _flat(item, f"{path}.{key}" if path else key, spec)
    elif items:
        paths = [f"{path}[{index}]" for index in range(len(items))]
        if len({str(spec.origin(item)) for item in paths}) == 1 and all(isinstance(item, str) for item in items):
            yield path, items
            return
        for item_path, item in zip(paths, items, strict=True):
            yield from _flat(item, item_path, spec)
    else:
        yield path, value


def _short(path: str) -> str:
    return path.removesuffix(".kind")


def one_line(value: object, width: int) -> str:
    """A value on one line, cut where it is longer than there is room."""
    items = as_list(value)
    if value is None:
        text = "unset"
    elif isinstance(value, bool):
        text = "true" if value else "false"
    elif items is not None:
        text = " ".join(shown(str(item)) for item in items) or "[]"
    else:
        text = str(value)
    text = "".join(char if char.isprintable() else f"\\x{ord(char):02x}" for char in text)
    room = max(width - 50, 20)
    return text if len(text) <= room else f"{text[: room - 3]}..."


def _steps(plan: LaunchPlan, paint: Paint) -> Iterator[str]:
    margin = "submit"
    for number, step in enumerate(plan.submit, 1):
        verb, what, remarks = line(step, plan)
        words = [f"{verb:<5}  {what}", *(paint.dim(remark) for remark in remarks)]
        yield f"{label(margin, paint)}{number}  {'  '.join(words)}"
        margin = ""


def _contents(plan: LaunchPlan, paint: Paint) -> Iterator[list[str]]:
    """The files that the run writes, as they will be."""
    for step in plan.submit:
        if isinstance(step, WriteFile):
            text = plain(step.content)
            if step.content == (Ref("spec"),):
                text = json.dumps(msgspec.to_builtins(plan.document()), indent=2, ensure_ascii=False)
            lines = text[:-1].split("\0") if text.endswith("\0") else text.splitlines()
            yield [f"  {paint.bold(shown(step.path))}", *(f"  | {line}" for line in lines)]


def _requests(plan: LaunchPlan, paint: Paint) -> Iterator[list[str]]:
    """What services are asked for."""
    for step in plan.submit:
        if isinstance(step, CallApi):
            name = f"{step.service} {step.operation}"
            yield [f"  {paint.bold(name)}", *(f"  | {line}" for line in request_lines(step))]


def _nodes(plan: LaunchPlan, paint: Paint) -> Iterator[list[str]]:
    """What is started on the nodes, once for those that do the same."""
    for group in plan.nodes:
        hosts = [shown(host) for host in group.hosts[:_NAMED]] + (["..."] if len(group.hosts) > _NAMED else [])
        where = [] if set(group.hosts) <= {"localhost"} else [paint.dim(f"<host> {' '.join(hosts)}")]
        lines = [*where, *_commands(group, paint)]
        margin = node_names(group.numbers)
        yield [label("" if number else margin, paint) + line for number, line in enumerate(lines)]


def _commands(group: NodeGroup, paint: Paint) -> Iterator[str]:
    for command in group.commands[:_REPEATED]:
        own = _own_variables(group.commands, command)
        text = shown_argv(command.argv)
        if command.title is not None and "-m" in command.argv:
            name = shown(command.argv[command.argv.index("-m") + 1])
            text = text.replace(f"{name} ", f"{name} {paint.dim(f'({command.title})')} ", 1)
        yield f"{' '.join([*own, ''])}{text}"
        if command.stdin is not None:
            yield from (paint.dim(f"  | {line}") for line in plain(command.stdin).splitlines())
    if len(group.commands) > _REPEATED:
        yield paint.dim(f"... and {len(group.commands) - _REPEATED} more, to rank {group.processes - 1}")
    cwd = group.commands[0].cwd
    if cwd is not None:
        yield paint.dim(f"in {shown(cwd)}")


def _own_variables(commands: tuple[Command, ...], command: Command) -> list[str]:
    """Variables in which the commands of a node differ."""
    if len(commands) == 1:
        return []
    return [
        f"{name}={shown(value)}"
        for name, value in command.env.items()
        if any(other.env.get(name) != value for other in commands)
    ]


def _adds(plan: LaunchPlan, paint: Paint) -> Iterator[str]:
    """The environment that jobc adds to what the processes inherit."""
    commands = plan.nodes[0].commands
    first = commands[0]
    margin = "adds"
    for name, value in first.env.items():
        if all(other.env.get(name) == value for other in commands):
            yield f"{label(margin, paint)}{name}={shown(value)}"
            margin = ""
    for prefix in first.unset:
        yield f"{label(margin, paint)}{paint.dim(f'{prefix}* is taken away where it is inherited')}"
        margin = ""
    for name in plan.secrets:
        yield f"{label(margin, paint)}{name} {paint.dim('(secret, from your environment)')}"
        margin = ""
    if plan.output.folder is not None:
        yield f"{label('logs', paint)}{shown(plan.output.folder)}"


def findings_block(findings: Iterable[Finding], paint: Paint) -> Iterator[str]:
    """Findings as they are printed below a plan."""
    for finding in findings:
        head, _, rest = finding.render().partition("\n")
        yield f"  {paint.warn(head)}"
        if rest:
            yield textwrap.indent(rest, "  ")
