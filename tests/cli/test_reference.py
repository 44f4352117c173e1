"""The reference pages are those that the schema, the commands and the findings make now."""

from pathlib import Path

import pytest
from jobc.cli.reference import pages

FOLDER = Path(__file__).parents[2] / "docs" / "reference"


@pytest.mark.parametrize("name", ["job.md", "commands.md", "findings.md", "accelerate.md"])
def test_page_is_the_committed_one(name):
    """Written once, in the model, in the command or in the catalogue, and committed for people who read the docs."""
    assert pages()[name] == (FOLDER / name).read_text(), "if the change is meant: make generate"


def test_no_other_page_stands_among_them():
    """A page that nobody makes any more is removed."""
    assert {path.name for path in FOLDER.iterdir()} == set(pages())
