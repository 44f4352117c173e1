"""Everything that a world of two processes can show after one start: the checks in `workers`, each a test."""

import ast
import json
from pathlib import Path

import pytest

WORKERS = Path(__file__).parent / "workers"
SUBJECTS = ("training", "gathering", "loading", "belongings", "faces")


def names():
    """The checks by name, read from the source: a check is a function whose name says so."""
    for subject in SUBJECTS:
        for node in ast.parse((WORKERS / f"{subject}.py").read_text()).body:
            if isinstance(node, ast.FunctionDef) and node.name.startswith("check_"):
                yield f"{subject}_{node.name.removeprefix('check_')}"


@pytest.fixture(scope="module")
def results(launch, tmp_path_factory):
    folder = tmp_path_factory.mktemp("results")
    ended = launch(WORKERS / "checks.py", folder)
    ranks = [folder / f"rank{rank}.json" for rank in range(2)]
    assert all(path.exists() for path in ranks), ended.stderr
    assert ended.returncode == 0, ended.stderr
    return [json.loads(path.read_text()) for path in ranks]


@pytest.mark.parametrize("name", list(names()))
def test_world_of_two_shows(results, name):
    """The check of this name holds in both processes."""
    for rank, result in enumerate(results):
        assert name in result, f"process {rank} did not come so far"
        assert result[name] is None, f"process {rank}: {result[name]}"
