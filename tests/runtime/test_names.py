"""The names that scripts import: each from `jobc` itself, each beside the line that it replaces."""

import importlib
import inspect
import re
from pathlib import Path

import accelerate
import jobc
import pytest
from jobc import Accelerator, PartialState

DOCS = Path(__file__).parents[2] / "docs"
ROWS = re.findall(
    r"^\| `from (accelerate[\w.]*) import (\w+)` \| `from jobc import (\w+)` \|$",
    (DOCS / "from-accelerate.md").read_text(),
    re.MULTILINE,
)
DEEPSPEED = "accelerate.utils.deepspeed"
OURS = {"Finding", "FindingsError", "JobcError", "load", "plan", "run", "__version__"}


@pytest.mark.parametrize(("module", "theirs", "ours"), ROWS)
def test_name_is_importable_and_in_the_guide(module, theirs, ours):
    """Every line of the guide names one thing under one name, and jobc has it."""
    assert theirs == ours
    assert getattr(jobc, ours) is not None


@pytest.mark.parametrize(("module", "theirs", "ours"), ROWS)
def test_line_of_the_guide_is_one_that_works_in_accelerate(module, theirs, ours):
    """The left side is an import that scripts can have; some only where DeepSpeed is installed."""
    home = DEEPSPEED if theirs in ("DummyOptim", "DummyScheduler") else module
    assert hasattr(importlib.import_module(home), theirs)


def test_every_public_name_of_the_runtime_is_in_the_guide():
    """A name that is not in the guide is one that nobody finds."""
    assert {ours for _, _, ours in ROWS} == set(jobc.__all__) - OURS


def test_reference_names_every_public_method():
    """docs/runtime.md has a heading for each method and property, and for nothing else."""
    text = (DOCS / "runtime.md").read_text()
    for kind in (Accelerator, PartialState):
        section = re.search(rf"^## {kind.__name__}$(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)
        listed = set(re.findall(r"^### `(\w+)", section[1], re.MULTILINE))
        assert listed == {name for name in dir(kind) if not name.startswith("_")}, kind


def test_reference_names_every_function():
    """docs/runtime.md has a heading for each function and class that is no plugin."""
    text = (DOCS / "runtime.md").read_text()
    listed = set(re.findall(r"^##+ `?(\w+)", text, re.MULTILINE))
    assert set(jobc.__all__) - OURS <= listed


SAME = (
    "__init__", "accumulate", "autocast", "backward", "clip_grad_norm_", "clip_grad_value_", "free_memory", "gather",
    "gather_for_metrics", "get_state_dict", "no_sync", "on_last_process", "on_local_main_process", "on_local_process",
    "on_main_process", "on_process", "pad_across_processes", "prepare_model", "prepare_optimizer", "prepare_scheduler",
    "reduce", "save", "save_model", "skip_first_batches", "split_between_processes", "unwrap_model",
)  # fmt: skip


@pytest.mark.parametrize("name", SAME)
def test_arguments_have_the_names_and_positions_of_accelerate(name):
    """A script may give arguments by position or by name."""
    theirs = accelerate.Accelerator
    known = inspect.signature(getattr(theirs, name)).parameters
    ours = list(inspect.signature(getattr(Accelerator, name)).parameters.values())
    positional = [item.name for item in ours if item.kind is not item.KEYWORD_ONLY]
    swallowed = {item.name for item in known.values() if item.kind is item.VAR_KEYWORD}
    assert positional[: len(known)] == [item for item in known if item not in swallowed] + [
        item.name for item in ours if item.kind is item.VAR_KEYWORD
    ]


def test_reference_is_made_of_the_docstrings(golden, monkeypatch):
    """docs/runtime.md says what the code says."""
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1] / "tools"))
    page = importlib.import_module("runtime_reference").page()
    golden(DOCS / "runtime.md", page)
