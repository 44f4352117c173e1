"""Secrets whose value stands in the document, told by the form that their makers give them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

import msgspec

from ..spec import Finding, ResolvedSpec, finding
from ..spec.untyped import as_dict, as_list


class Form(NamedTuple):
    """What a kind of secret looks like, and the variable that programs read it from."""

    title: str
    variable: str
    pattern: str


_FORMS = (
    Form("an access token of Hugging Face", "HF_TOKEN", r"hf_[A-Za-z0-9]{30,}"),
    Form("an access key of AWS", "AWS_ACCESS_KEY_ID", r"A[KS]IA[A-Z0-9]{16}"),
    Form("a token of GitHub", "GITHUB_TOKEN", r"gh[pousr]_[A-Za-z0-9]{36,}|github_pat_[A-Za-z0-9_]{60,}"),
    Form("a token of GitLab", "GITLAB_TOKEN", r"glpat-[A-Za-z0-9_-]{20,}"),
    Form("a key of Anthropic", "ANTHROPIC_API_KEY", r"sk-ant-[A-Za-z0-9_-]{20,}"),
    Form("a key of OpenAI", "OPENAI_API_KEY", r"sk-(?:proj-)?[A-Za-z0-9_]{20,}"),
    Form("a key of Google", "GOOGLE_API_KEY", r"AIza[A-Za-z0-9_-]{35}"),
    Form("a token of Slack", "SLACK_TOKEN", r"xox[abprs]-[A-Za-z0-9-]{20,}"),
    Form("a private key", "PRIVATE_KEY", r"-----BEGIN [A-Z ]*PRIVATE KEY-----"),
)
_ANY = re.compile("|".join(rf"(?<![A-Za-z0-9])(?:{form.pattern})" for form in _FORMS))


def check(spec: ResolvedSpec) -> Iterator[Finding]:
    """J324 for every value of the document that has the form of a secret. The line is named, and not shown."""
    for path, text in _texts(spec.values(), ""):
        found = _ANY.search(text)
        if found is None:
            continue
        form = next(form for form in _FORMS if re.match(form.pattern, found[0]))
        parts = path.split(".")
        variable = parts[1] if parts[0] == "env" and len(parts) > 1 else form.variable
        place = spec.place(path)
        yield finding(
            "J324",
            f"`{path}` holds what looks like {form.title}",
            place=None if place is None else msgspec.structs.replace(place, excerpt=None),
            next_step=f"take it out and write `secrets: [{variable}]`; the value comes from the environment of the run",
        )


def _texts(value: object, path: str) -> Iterator[tuple[str, str]]:
    block, items = as_dict(value), as_list(value)
    if isinstance(value, str):
        yield path, value
    elif block is not None:
        for key, item in block.items():
            yield from _texts(item, f"{path}.{key}" if path else key)
    else:
        for index, item in enumerate(items or ()):
            yield from _texts(item, f"{path}[{index}]")
