"""Plans of documents written on the spot."""

import pytest
from jobc.cli.api import load, plan


@pytest.fixture
def planned(folder):
    """The plan of a document with overrides."""

    def run(text, *overrides, name="job.yaml"):
        (folder / name).write_text(text)
        return plan(load(name, overrides, env={}))

    return run
