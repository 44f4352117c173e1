"""The character-level GPT: one script, switched by one word."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

GPT = Path(__file__).parents[2] / "examples" / "gpt"
SMALL = 'args=[--steps,"6",--width,"16",--length,"32",--layers,"2",--letters,"8"]'


@pytest.fixture
def gpt(tmp_path, monkeypatch):
    """A copy of the example."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    return Path(shutil.copytree(GPT, tmp_path / "gpt", ignore=shutil.ignore_patterns("out", "__pycache__")))


def run(folder, *words):
    done = subprocess.run(
        [sys.executable, "-m", "jobc", "run", "job.yaml", SMALL, *words],
        cwd=folder,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=250,
    )
    assert done.returncode == 0, done.stderr
    (line,) = (line for line in done.stdout.splitlines() if "test loss" in line)
    return done.stdout, float(line.rpartition(" ")[2])


def test_one_word_changes_how_it_is_spread(gpt):
    """ddp and fsdp give the same test loss; the model is saved with its tied head stored once."""
    from safetensors import safe_open

    said, loss = run(gpt)
    assert "2 processes, MULTI_CPU, no" in said
    shutil.rmtree(gpt / "out")
    said, sharded = run(gpt, "paradigm=fsdp")
    assert "2 processes, FSDP, no" in said
    assert sharded == pytest.approx(loss, abs=2e-4)
    with safe_open(gpt / "out" / "model.safetensors", "pt") as file:
        assert "letter.weight" in file.keys()  # noqa: SIM118 - it is no dictionary
        assert file.metadata()["head.weight"] == "letter.weight"


def test_one_word_changes_its_precision(gpt):
    """bf16 trains too, sharded or not."""
    for words in (["precision=bf16"], ["precision=bf16", "paradigm=fsdp"]):
        said, loss = run(gpt, *words)
        assert ", bf16" in said
        assert 3.5 < loss < 5.0
