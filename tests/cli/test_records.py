"""Records of runs under kills and under several commands at once, and a killed process that nobody waits for."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

TOOL = Path(__file__).parents[1] / "tools" / "run_records.py"


@pytest.mark.parametrize("words", [["steps"], ["moments", "80"], ["together", "50"]], ids=lambda words: words[0])
def test_records_are_whole_and_true_whatever_happens(words):
    """SIGKILL where a file is touched and at random moments, four commands at a time: every run is listed as it is."""
    done = subprocess.run([sys.executable, TOOL, *words], capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.endswith("\n0 faults\n")


def test_killed_run_that_nobody_waited_for_is_lost(jobc_command, folder):
    """A process that has ended and is still in the process table, as under an init that waits for nobody."""
    (folder / "job.yaml").write_text("command: [sleep, '600']\n")
    with subprocess.Popen([sys.executable, "-m", "jobc", "run", "job.yaml"], cwd=folder, stderr=subprocess.PIPE) as run:
        assert b"jobc: run" in run.stderr.readline()
        os.kill(run.pid, signal.SIGKILL)
        while Path(f"/proc/{run.pid}/stat").read_text().rpartition(") ")[2][0] != "Z":
            time.sleep(0.01)
        (found,) = json.loads(jobc_command("ps", "--format", "json").stdout)
        assert found["state"] == "lost"
        assert jobc_command("wait", "last").returncode == 1
