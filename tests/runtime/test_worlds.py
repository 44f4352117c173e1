"""Everything that a world of some size can show after one start: the checks in `workers`, each a test."""

import ast
import json
from pathlib import Path

import pytest

WORKERS = Path(__file__).parent / "workers"
#: By the number of processes, the modules whose checks are made there.
WORLDS = {
    1: ("conformance", "resuming", "keeping"),
    2: (
        *("training", "conformance", "gathering", "loading", "belongings", "faces", "dispatching", "resuming"),
        *("keeping", "apart", "honoured"),
    ),
    4: ("conformance", "dispatching", "resuming_in_four"),
}


def names():
    """The checks of every world, read from the source: a check is a function whose name says so."""
    for size, subjects in WORLDS.items():
        for subject in subjects:
            for node in ast.parse((WORKERS / f"{subject}.py").read_text()).body:
                if isinstance(node, ast.FunctionDef) and node.name.startswith("check_"):
                    yield pytest.param(size, f"{subject}_{node.name.removeprefix('check_')}", id=f"{size}-{node.name}")


@pytest.fixture(scope="module")
def worlds(launch, alone, tmp_path_factory):
    """The results of a world's checks in each of its processes; the world is started once."""
    found = {}

    def results(size):
        if size not in found:
            folder = tmp_path_factory.mktemp("results")
            arguments = (WORKERS / "checks.py", folder, *WORLDS[size])
            ended = launch(*arguments, processes=size, timeout=300) if size > 1 else alone(*arguments)
            paths = [folder / f"rank{rank}.json" for rank in range(size)]
            found[size] = [json.loads(path.read_text()) if path.exists() else {} for path in paths], ended
        return found[size]

    return results


@pytest.mark.parametrize(("size", "name"), list(names()))
def test_world_shows(worlds, size, name):
    """The check of this name holds in every process of a world of this size."""
    ranks, ended = worlds(size)
    for rank, result in enumerate(ranks):
        assert name in result, f"process {rank} did not come so far\n{ended.stderr}"
        assert result[name] is None, f"process {rank}: {result[name]}"
    assert ended.returncode == 0, ended.stderr
