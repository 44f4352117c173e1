"""The text form of a plan: calm, aligned, one screen for an ordinary job, and the whole truth."""

from __future__ import annotations

import shutil
import textwrap
from collections.abc import Iterator

from ..spec import ResolvedSpec
from ..spec.untyped import as_dict, as_list
from .plan import Command, LaunchPlan, Ref, RunCommand, StartNodes, WriteFile
from .quoting import plain, shown, shown_argv

_LABEL = 11  # columns before the text: two, the label, one or more
_REPEATED = 4  # commands of a node that are shown before they are folded


def render_text(plan: LaunchPlan, spec: ResolvedSpec, again: str, *, color: bool, width: int | None = None) -> str:
    """The plan for a person.

    Args:
        plan: the plan.
        spec: the spec it was made from, for origins and the values that lost.
        again: the command line that runs exactly this plan.
        color: whether to use ANSI colours; without them defaults are told apart by their place alone.
        width: columns to fit; the terminal's when not given.
    """
    width = width or min(shutil.get_terminal_size((100, 24)).columns, 140)
    paint = _Paint(color=color)
    blocks = [
        [_headline(plan, spec, paint)],
        list(_document(spec, paint, width)),
        list(_steps(plan, paint)),
        *(_node(plan, index, paint) for index in range(len(plan.nodes))),
        list(_adds(plan, paint)),
        list(_findings(plan, paint)),
        [f"  {paint.dim(again)}"],
    ]
    return "\n" + "\n\n".join("\n".join(block) for block in blocks if block) + "\n"


class _Paint:
    """ANSI styles, or none."""

    def __init__(self, *, color: bool) -> None:
        self._color = color

    def dim(self, text: str) -> str:
        return f"\x1b[2m{text}\x1b[0m" if self._color else text

    def bold(self, text: str) -> str:
        return f"\x1b[1m{text}\x1b[0m" if self._color else text

    def warn(self, text: str) -> str:
        return f"\x1b[33m{text}\x1b[0m" if self._color else text


def _label(word: str, paint: _Paint) -> str:
    return "  " + paint.bold(word) + " " * (_LABEL - len(word))


def _headline(plan: LaunchPlan, spec: ResolvedSpec, paint: _Paint) -> str:
    job = spec.job
    hardware = type(job.hardware).__struct_config__.tag
    device = "process" if hardware == "auto" else hardware
    count = len(plan.nodes)
    total = plan.processes
    sum_ = f"{count} node{'s' if count > 1 else ''} x {job.processes_per_node} {device}"
    processes = f"{total} process{'es' if total > 1 else ''}"
    target = type(job.target).__struct_config__.tag
    return f"  {paint.bold(plan.name)}   plan {plan.digest[:8]}   {sum_} = {processes}   target {target}"


def _document(spec: ResolvedSpec, paint: _Paint, width: int) -> Iterator[str]:
    """Values that somebody set or that follow from them, then the mere defaults."""
    values = dict(_flat(spec.values(), "", spec))
    set_ = {path: value for path, value in values.items() if spec.origin(path).layer != "default"}
    lost = {item.path: item for item in spec.beaten}
    paths = [_short(path) for path in set_]
    column = min(max((len(path) for path in paths), default=0), 36)
    texts = [_one_line(value, width) for value in set_.values()]
    wide = min(max((len(text) for text in texts), default=0), 30)
    label = "document"
    for path, name, text in zip(set_, paths, texts, strict=True):
        beaten = lost.get(path)
        was = f"   was {_one_line(beaten.value, width)} ({beaten.origin})" if beaten is not None else ""
        line = f"{name:<{column}}  {text:<{wide}}  {spec.origin(path)}{was}"
        yield (_label(label, paint) + line).rstrip()
        label = ""
    rest = [f"{_short(path)}={_one_line(value, width)}" for path, value in values.items() if path not in set_]
    head = _label(label, paint)
    for line in textwrap.wrap("  ".join(rest), width - 13, break_on_hyphens=False, break_long_words=False):
        yield head + paint.dim(line)
        head = _label("", paint)


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


def _one_line(value: object, width: int) -> str:
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


def _steps(plan: LaunchPlan, paint: _Paint) -> Iterator[str]:
    label = "submit"
    for number, step in enumerate(plan.submit, 1):
        match step:
            case WriteFile():
                what = "the resolved document" if step.content == (Ref("spec"),) else _size(step)
                line = f"write  {shown(step.path)}  {paint.dim(f'{what}, mode {step.mode:o}')}"
            case RunCommand():
                line = f"run    {shown_argv(step.command.argv)}"
            case StartNodes():
                names = ", ".join(f"node {index}" for index in step.nodes)
                line = f"start  {names} and wait"
                if step.ports:
                    ports = ", ".join(str(port) for port in step.ports)
                    line += f"  {paint.dim(f'needs port {ports} free')}"
        yield f"{_label(label, paint)}{number}  {line}"
        label = ""


def _size(step: WriteFile) -> str:
    lines = plain(step.content).count("\n") + 1
    return f"{lines} line{'s' if lines > 1 else ''}"


def _node(plan: LaunchPlan, index: int, paint: _Paint) -> list[str]:
    node = plan.nodes[index]
    lines: list[str] = []
    label = f"node {index}"
    for command in node.commands[:_REPEATED]:
        own = _own_variables(node.commands, command)
        head = f"{_label(label, paint)}{' '.join([*own, ''])}"
        text = shown_argv(command.argv)
        if command.title is not None:
            name = command.argv[2]
            text = text.replace(f"{name} ", f"{name} {paint.dim(f'({command.title})')} ", 1)
        lines.append(head + text)
        label = ""
    if len(node.commands) > _REPEATED:
        lines.append(
            _label("", paint) + paint.dim(f"... and {len(node.commands) - _REPEATED} more, to rank {node.ranks[-1]}")
        )
    cwd = node.commands[0].cwd
    if cwd is not None:
        lines.append(f"{_label('', paint)}{paint.dim(f'in {shown(cwd)}')}")
    return lines


def _own_variables(commands: tuple[Command, ...], command: Command) -> list[str]:
    """Variables in which the commands of a node differ."""
    if len(commands) == 1:
        return []
    return [
        f"{name}={shown(value)}"
        for name, value in command.env.items()
        if any(other.env.get(name) != value for other in commands)
    ]


def _adds(plan: LaunchPlan, paint: _Paint) -> Iterator[str]:
    """The environment that jobc adds to what the processes inherit."""
    commands = plan.nodes[0].commands
    first = commands[0]
    label = "adds"
    for name, value in first.env.items():
        if all(other.env.get(name) == value for other in commands):
            yield f"{_label(label, paint)}{name}={shown(value)}"
            label = ""
    for prefix in first.unset:
        yield f"{_label(label, paint)}{paint.dim(f'{prefix}* is taken away where it is inherited')}"
        label = ""
    for name in plan.secrets:
        yield f"{_label(label, paint)}{name} {paint.dim('(secret, from your environment)')}"
        label = ""


def _findings(plan: LaunchPlan, paint: _Paint) -> Iterator[str]:
    for finding in plan.findings:
        head, _, rest = finding.render().partition("\n")
        yield f"  {paint.warn(head)}"
        if rest:
            yield textwrap.indent(rest, "  ")
