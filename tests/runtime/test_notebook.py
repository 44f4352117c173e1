"""Launchers in a Python that is running: real processes, from a script that stands for a notebook."""

import importlib
import re
import sys
import types
from pathlib import Path

import pytest
import torch
from jobc import FindingsError, notebook_launcher
from jobc.runtime.who_used_cuda import who_used_cuda

NOTEBOOK = Path(__file__).parent / "workers" / "notebook_cells.py"


@pytest.fixture(scope="module")
def cells(alone):
    """What each cell printed."""
    ended = alone(NOTEBOOK)
    assert ended.returncode == 0, ended.stderr
    found = {}
    for line in ended.stdout.splitlines():
        name, _, text = line.partition(": ")
        found.setdefault(name, []).append(text)
    return found


def test_functions_run_in_two_processes_on_the_cpu(cells):
    """`debug_launcher` starts two, which talk to each other."""
    assert sorted(cells["debug"]) == ["0 of 2 no [5, 6]", "1 of 2 no [5, 6]"]


@pytest.mark.parametrize("kind", ["forked", "spawned"])
def test_precision_of_the_launcher_holds(cells, kind):
    """Forked or started anew, Accelerators that say nothing compute in the launcher's precision."""
    assert sorted(cells[kind]) == ["0 of 2 bf16 [5, 6]", "1 of 2 bf16 [5, 6]"]


def test_one_process_is_this_one(cells):
    """The function runs here, in the precision asked for, and can leave things behind."""
    assert cells["alone"] == ["0 of 1 bf16 [5]"]
    assert cells["left"] == ["here"]


def test_keyword_that_contradicts_the_launcher_is_refused(cells):
    """The finding names both."""
    assert cells["contradiction"] == ["J503 notebook_launcher(mixed_precision=...)"]


def test_failure_is_the_error_of_the_parent(cells):
    """The traceback of the process that failed first, not of one that lost its peer, is what the parent raises."""
    assert cells["failed"] == ["process 1 of 2 failed", "ValueError: boom"]
    assert cells["killed"] == ["process 1 of 2 was ended by signal 9"]
    assert cells["left over"] == ["0"]


def test_environment_of_the_parent_stays(cells):
    """No variable is left behind."""
    assert cells["environment"] == ["same"]


@pytest.mark.parametrize(
    ("keywords", "words"),
    [
        ({"mixed_precision": "fp7"}, "mixed_precision: `fp7`"),
        ({"num_processes": 0}, "num_processes: `0`"),
        ({"num_processes": 1.5}, "num_processes: `1.5`"),
        ({"args": 5}, "args: `5` is no sequence of arguments"),
        ({"args": "run-1"}, "write `args=('run-1',)`, with a comma"),
        ({"args": {1: 2}}, "args: `{1: 2}` is no sequence of arguments"),
    ],
)
def test_impossible_arguments_are_refused(keywords, words):
    """Before anything is started."""
    with pytest.raises(FindingsError, match=re.escape(words)):
        notebook_launcher(print, **keywords)
    with pytest.raises(FindingsError, match=r"function: `'train'` cannot be called"):
        notebook_launcher("train", (), 1)


def test_processes_are_started_anew_where_fork_cannot_be(cells):
    """With a device in use both launchers spawn: the processes have nothing of this one but what they are given."""
    assert sorted(cells["anew"]) == ["0 of 2 no [7, 8] spawn", "1 of 2 no [7, 8] spawn"]
    assert sorted(cells["anew in bf16"]) == ["0 of 2 bf16 [7, 8] spawn", "1 of 2 bf16 [7, 8] spawn"]
    assert sorted(cells["as before"]) == ["0 of 2 no [7, 8] fork", "1 of 2 no [7, 8] fork"]


def test_import_that_used_the_gpu_is_named(cells):
    """With GPUs that this process uses nothing is started, and the error says which import did it."""
    (said,) = cells["in use"]
    assert said.startswith("J513 ")
    assert (
        "`from warms_up import net` in In [1] ran `net = net.cuda() if torch.cuda.device_count() > 9 else net`" in said
    )
    assert "warms_up.py:" in said


def test_who_used_the_gpu_is_named_where_it_can_be_known():
    """Cells that name CUDA, variables on a device, and nothing where nothing is known."""
    names = {
        "In": ["", "import torch\nmodel = model.to('cuda')", "# torch.cuda.is_available()"],
        "model": torch.nn.Linear(1, 1, device="meta"),
        "__builtins__": __builtins__,
    }
    told = types.FunctionType((lambda: None).__code__, names)
    said = "In [1] says `model = model.to('cuda')`\nthe variable `model` is on meta"
    assert who_used_cuda(told, kinds=["meta"]).startswith(said)
    assert who_used_cuda(types.FunctionType((lambda: None).__code__, {})) == ""


def test_import_that_left_something_on_the_gpu_is_named(tmp_path, monkeypatch):
    """A module of the user's that holds a tensor there is named with its variable; one that only asks is not."""
    (tmp_path / "jobc_test_leaves.py").write_text("import torch\nheld = torch.ones(1, device='meta')\n")
    (tmp_path / "jobc_test_asks.py").write_text("import torch\nthere = torch.cuda.is_available()\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    for name in ("jobc_test_leaves", "jobc_test_asks"):
        monkeypatch.setitem(sys.modules, name, importlib.import_module(name))
    told = types.FunctionType((lambda: None).__code__, {"In": ["", "import os, jobc_test_leaves"]})
    said = who_used_cuda(told, kinds=["meta"])
    assert said == ("`import os, jobc_test_leaves` in In [1] left something there: the variable `held` is on meta")
    (tmp_path / "jobc_test_leaves.py").unlink()
    assert who_used_cuda(told) == ""
