"""Runs that are ended from outside: jobc, the agent or a rank, by each signal; nothing is left, and the record is right."""

import subprocess
import sys
from pathlib import Path

import pytest

TOOL = Path(__file__).parents[1] / "tools" / "ended_runs.py"


@pytest.mark.parametrize("words", [["1", "python"], ["1", "torchrun", "SIGKILL"]], ids=" ".join)
def test_ended_runs_leave_nothing_and_say_how(words):
    """Every rank has a process in a session of its own, which outlives it unless somebody ends it."""
    done = subprocess.run([sys.executable, TOOL, *words], capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stdout + done.stderr
