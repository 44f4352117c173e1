"""Text from templates. What they are given is quoted for its language before it gets there."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template

_TEMPLATES = Path(__file__).parent.parent / "templates"


def template(name: str) -> Template:
    """A template by its path in `templates/`. Its marks are `@{`, `}@`, which mean nothing in bash, YAML and Python."""
    return _environment().get_template(name)


@cache
def _environment() -> Environment:
    return Environment(
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
