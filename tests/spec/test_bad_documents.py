"""A table of bad documents and overrides, each beside the exact text that a person sees.

A line `+++ hardware/dgx.yaml` starts a further file beside the job.
"""

import re
from pathlib import Path
from typing import NamedTuple

import pytest
from jobc.compiler.compile import compile_plan
from jobc.spec import FindingsError
from jobc.spec.resolve import resolve

TABLE = Path(__file__).with_name("bad_documents.txt")
HEAD = re.compile(r"^=== (?P<name>[^|\n]+?)(?: \| (?P<overrides>.*))?$", re.MULTILINE)
ARROW = "\n--->\n"
FURTHER = re.compile(r"^\+\+\+ (\S+)\n", re.MULTILINE)


class Case(NamedTuple):
    """One entry of the table."""

    name: str
    overrides: tuple[str, ...]
    document: str
    expected: str


def read_table():
    parts = HEAD.split(TABLE.read_text())[1:]
    for name, overrides, body in zip(parts[::3], parts[1::3], parts[2::3], strict=True):
        document, _, expected = body.removeprefix("\n").partition(ARROW)
        words = tuple((overrides or "").split(" ; ")) if overrides else ()
        yield Case(name, words, document, expected.strip("\n"))


CASES = list(read_table())
SEEN: dict[str, str] = {}


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_bad_document_says_what_a_person_needs(case, folder, request):
    """Each document is refused with the findings that the table shows, and with nothing else."""
    file = "job.toml" if case.name.startswith("toml") else "job.yaml"
    job, *further = FURTHER.split(case.document)
    for name, text in [(file, job), *zip(further[::2], further[1::2], strict=True)]:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(text.encode().decode("unicode_escape").encode("latin-1").decode().encode())
    with pytest.raises(FindingsError) as caught:
        compile_plan(resolve(Path(file), case.overrides, env={}, cwd=folder, count_gpus=lambda: 0))
    text = str(caught.value).replace(str(folder), "<folder>")
    if request.config.getoption("--accept"):
        SEEN[case.name] = text
        entries = (
            f"=== {entry.name}{' | ' + ' ; '.join(entry.overrides) if entry.overrides else ''}\n"
            f"{entry.document}{ARROW}{SEEN.get(entry.name, entry.expected)}\n"
            for entry in CASES
        )
        TABLE.write_text("\n".join(entries))
        return
    assert text == case.expected, "if the change is meant: make test ARGS=--accept"


def test_table_names_each_case_once():
    """Two cases of one name would hide one another."""
    assert len({case.name for case in CASES}) == len(CASES)
