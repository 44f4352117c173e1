"""The page of every finding: there is one, and its example causes that very finding."""

from pathlib import Path

import pytest
from jobc.compiler.compile import compile_plan
from jobc.spec import FindingsError
from jobc.spec.codes import CODES
from jobc.spec.pages import page, pages
from jobc.spec.resolve import resolve

PLANNED = [code for code in CODES if not page(code).when]


def test_every_code_has_a_page():
    """A finding that nobody can look up is half a finding."""
    assert set(CODES) <= set(pages())


@pytest.mark.parametrize("code", PLANNED)
def test_example_causes_the_finding(code, folder):
    """The document on the page is planned, and says what the page is about and nothing else, planned kinds aside."""
    found = page(code)
    (folder / found.file).write_text(found.example.lstrip("\n"))
    try:
        spec = resolve(Path(found.file), found.overrides, env={}, cwd=folder, count_gpus=lambda: 0)
        findings = compile_plan(spec).findings
    except FindingsError as error:
        findings = error.findings
    own = [finding for finding in findings if code == "J320" or finding.code != "J320"]
    assert [finding.code for finding in own] == [code]
    assert own[0].severity == CODES[code].severity


@pytest.mark.parametrize("code", CODES)
def test_page_is_sentences(code):
    """What it means and what to do, each in whole sentences; what cannot happen at plan time says when it does."""
    found = page(code)
    assert found.meaning.endswith(".")
    assert found.advice.endswith(".")
    assert found.example or found.when
