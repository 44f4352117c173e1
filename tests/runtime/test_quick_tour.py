"""The snippets of Accelerate's quick tour and launch tutorial run here, changed in their import lines only."""

import json
from pathlib import Path

import pytest

SNIPPETS = Path(__file__).parent / "snippets"
NAMES = sorted(path.stem for path in SNIPPETS.glob("*.txt"))


@pytest.fixture(scope="module")
def alone_results(alone, tmp_path_factory):
    folder = tmp_path_factory.mktemp("snippets")
    ended = alone(SNIPPETS / "prelude.py", folder)
    assert ended.returncode == 0, ended.stderr
    return [json.loads((folder / "rank0.json").read_text())]


@pytest.fixture(scope="module")
def pair_results(launch, tmp_path_factory):
    folder = tmp_path_factory.mktemp("snippets")
    ended = launch(SNIPPETS / "prelude.py", folder)
    assert ended.returncode == 0, ended.stderr
    return [json.loads((folder / f"rank{rank}.json").read_text()) for rank in range(2)]


@pytest.mark.parametrize("name", NAMES)
def test_snippet_runs_in_one_process(alone_results, name):
    """The snippet of this name runs alone."""
    assert [result[name] for result in alone_results] == [None]


@pytest.mark.parametrize("name", NAMES)
def test_snippet_runs_in_two_processes(pair_results, name):
    """The snippet of this name runs in both of two processes."""
    assert [result[name] for result in pair_results] == [None, None]
