"""The example that is killed and goes on, as its README shows it."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

RESUME = Path(__file__).parents[2] / "examples" / "resume"


def test_killed_run_ends_as_the_one_that_was_let_alone(tmp_path, monkeypatch):
    """The lines of the first process, and all parameters to the last digit."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    said = []
    for name, args in (("alone", []), ("killed", ["args=[--die-at,37]"])):
        folder = Path(shutil.copytree(RESUME, tmp_path / name))
        command = [sys.executable, "-m", "jobc", "run", "job.yaml", *args]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=250, check=False)
        assert done.returncode == 0, done.stderr
        said.append(done)
    alone, killed = ([line for line in item.stdout.splitlines() if "goes on" not in line] for item in said)
    assert alone == killed
    # The checkpoint of step 35 may still have been written when the process was killed.
    assert re.search(r"\[0\] goes on after step 3[05]\n", said[1].stdout)
    assert "rank 1 failed: signal 9 (SIGKILL); all processes start again (restart 1)" in said[1].stdout + said[1].stderr
    kept = sorted(path.name for path in (tmp_path / "killed" / "checkpoints").iterdir())
    assert kept == ["step-00000055", "step-00000060"]
