"""Writes the reference pages: fields from the schema, commands from their help, findings from their pages.

python -m jobc.cli.reference docs/reference
"""

from __future__ import annotations

import os
import tempfile
import textwrap
from collections.abc import Iterable, Iterator
from pathlib import Path

import click

from ..compiler.compile import compile_plan
from ..compiler.launchers import LAUNCHERS
from ..compiler.targets import TARGETS
from ..spec.accelerate_keys import blocks
from ..spec.capabilities import PLANNED
from ..spec.codes import CODES
from ..spec.describe import Field, fields, fields_below, kinds_at
from ..spec.findings import FindingsError
from ..spec.pages import Page, page
from ..spec.resolve import resolve
from .app import app
from .pages import command_line, type_and_default

_MADE = "<!-- Made by `make generate`; what it says is written in {source}. -->"
_FAMILIES = {
    "J1": "The document",
    "J2": "Overrides and interpolation",
    "J3": "What a plan cannot honour",
    "J4": "A run",
    "J5": "The process",
}
_HOME = "/home/you/project"


def write(folder: Path) -> None:
    """Writes every reference page into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in pages().items():
        (folder / name).write_text(text, encoding="utf-8")


def pages() -> dict[str, str]:
    """The reference pages by file name."""
    made = {"job.md": _job(), "commands.md": _commands(), "findings.md": _findings()}
    made |= {"targets.md": _targets(), "accelerate.md": _accelerate()}
    return {name: "\n".join(lines).rstrip() + "\n" for name, lines in made.items()}


def _paragraph(text: str) -> list[str]:
    return textwrap.wrap(text, 120, break_on_hyphens=False)


# --- the fields of a job --------------------------------------------------------------------------------------------


def _job() -> Iterator[str]:
    top = [field for field in fields() if "." not in field.path]
    yield "# The job document"
    yield ""
    yield _MADE.format(source="`spec/model.py` and the modules of its blocks")
    yield ""
    yield from _paragraph(
        "Every field of `job.yaml` and `job.toml`, in the sentences that `jobc explain <field>` prints. A word stands"
        " for a block where the type says so: `paradigm: ddp` is `paradigm: {kind: ddp}`. On the command line a field"
        " is set by its path, `paradigm.static_graph=true`. Every value may be an interpolation, `${path}` or"
        " `${oc.env:NAME}`."
    )
    yield ""
    yield from _table(top, linked=True)
    for field in top:
        yield from _block(field)


def _block(field: Field) -> Iterator[str]:
    below = fields_below(field.path)
    kinds = kinds_at(field.path)
    yield ""
    yield f"## {field.path}"
    yield ""
    yield field.doc
    yield ""
    yield f"{_upper(type_and_default(field))}."
    for word, doc in kinds.items():
        yield ""
        yield f"### {field.path}: {word}"
        yield ""
        yield doc
        yield from _table_below([key for key in below if key.kind == word])
    if not kinds:
        yield from _table_below(list(below))


def _table_below(listed: list[Field]) -> Iterator[str]:
    if listed:
        yield ""
        yield from _table(listed, linked=False)


def _table(listed: Iterable[Field], *, linked: bool) -> Iterator[str]:
    yield "| field | type | what it means |"
    yield "|---|---|---|"
    for field in listed:
        name = f"[`{field.path}`](#{field.path})" if linked else f"`{field.path}`"
        yield f"| {name} | {_cell(type_and_default(field))} | {_cell(field.doc)} |"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _upper(text: str) -> str:
    return text[:1].upper() + text[1:]


# --- commands -------------------------------------------------------------------------------------------------------


def _commands() -> Iterator[str]:
    yield "# Commands"
    yield ""
    yield _MADE.format(source="the commands' own help, `cli/`")
    yield ""
    yield from _paragraph(
        "The exit code is 0, or 2 for a job that cannot be honoured and for misuse; that of `jobc run` is the job's."
    )
    root = app.make_context("jobc", [], resilient_parsing=True, terminal_width=100)
    yield from _help("jobc", root)
    for name in app.list_commands(root):
        command = app.get_command(root, name)
        if command is not None:
            context = command.make_context(name, [], parent=root, resilient_parsing=True, terminal_width=100)
            yield from _help(f"jobc {name}", context)
            for below in command.commands.values() if isinstance(command, click.Group) else ():
                inner = below.make_context(below.name, [], parent=context, resilient_parsing=True, terminal_width=100)
                yield from _help(f"jobc {name} {below.name}", inner)


def _help(name: str, context: click.Context) -> Iterator[str]:
    yield ""
    yield f"## {name}"
    yield ""
    yield "```text"
    yield from (line.rstrip() for line in context.get_help().splitlines())
    yield "```"


# --- findings -------------------------------------------------------------------------------------------------------


def _findings() -> Iterator[str]:
    yield "# Findings"
    yield ""
    yield _MADE.format(source="`spec/codes.py` and `spec/pages.toml`")
    yield ""
    yield from _paragraph(
        "Everything that jobc says about a job that it cannot honour, or that somebody should know. A code never"
        " changes its meaning. An error ends the command with exit code 2; a warning or a hint does not."
        " `jobc explain J103` prints one of these pages, `jobc check job.yaml` the findings of a job."
    )
    family = ""
    for code, entry in CODES.items():
        if _FAMILIES[code[:2]] != family:
            family = _FAMILIES[code[:2]]
            yield ""
            yield f"## {family}"
        found = page(code)
        yield ""
        yield f"### {code}"
        yield ""
        yield f"**{_upper(entry.severity)}.** {entry.title}"
        yield ""
        yield found.meaning
        if found.when:
            yield ""
            yield f"It happens {found.when}."
        yield from _example(code, found)
        yield ""
        yield found.advice


def _example(code: str, found: Page) -> Iterator[str]:
    if not found.example:
        return
    yield ""
    yield f"```{'toml' if found.file.endswith('.toml') else 'yaml'}"
    yield from found.example.strip("\n").splitlines()
    yield "```"
    if not found.when:
        yield ""
        yield "```text"
        yield f"$ {command_line(code)}"
        yield from _said(found).splitlines()
        yield "```"


def _said(found: Page) -> str:
    """What jobc says to the example, for real."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name).resolve()
        (folder / "train.py").touch()
        (folder / found.file).write_text(found.example.lstrip("\n"), encoding="utf-8")
        try:
            spec = resolve(Path(found.file), found.overrides, env={}, cwd=folder, count_gpus=lambda: 0)
            findings = compile_plan(spec).findings
        except FindingsError as error:
            findings = error.findings
        return "\n\n".join(finding.render() for finding in findings).replace(str(folder), _HOME).replace(os.sep, "/")


# --- targets and launchers ------------------------------------------------------------------------------------------


def _targets() -> Iterator[str]:
    yield "# Targets and launchers"
    yield ""
    yield _MADE.format(source="what each module of `compiler/targets` declares")
    yield ""
    yield from _paragraph(
        "A target says where the nodes of a job come from, a launcher what starts the processes of one node. A pair"
        " without a mark is refused when the job is planned (J311), with what to use instead; so is `depends_on` where"
        " a target cannot hold a run back. A target that is only planned shows the whole plan, and `jobc run`"
        " refuses it (J409)."
    )
    yield ""
    yield " | ".join(
        ("| target", "where nodes come from", *(f"`{name}`" for name in LAUNCHERS), "`depends_on`", "run |")
    )
    yield "|---" * (len(LAUNCHERS) + 4) + "|"
    planned = {item.kind for item in PLANNED if item.block == "target"}
    sentences = kinds_at("target")
    for struct, target in TARGETS.items():
        kind = str(struct.__struct_config__.tag)
        able = ("yes" if name in target.LAUNCHERS else "" for name in LAUNCHERS)
        run = "planned" if kind in planned else "yes"
        cells = (f"`{kind}`", _cell(sentences[kind]), *able, "yes" if target.DEPENDS else "", run)
        yield f"| {' | '.join(cells)} |"


# --- keys of Accelerate ---------------------------------------------------------------------------------------------


def _accelerate() -> Iterator[str]:
    yield "# Accelerate's configuration keys"
    yield ""
    yield _MADE.format(source="`spec/accelerate_keys.toml`")
    yield ""
    yield from _paragraph(
        "Each key of a file that `accelerate config` wrote, and the path of a job's document that says the same, or why"
        " there is none. [The job document](job.md) has every path, [From Accelerate](../from-accelerate.md) the rest."
    )
    for block in blocks().values():
        yield ""
        yield f"## {block.title}"
        yield ""
        yield "| Accelerate | jobc | |"
        yield "|---|---|---|"
        for name, key in block.keys.items():
            yield f"| `{name}` | {f'`{key.path}`' if key.path else '-'} | {_cell(key.note or key.why)} |"


if __name__ == "__main__":
    import sys

    write(Path(sys.argv[1]))
