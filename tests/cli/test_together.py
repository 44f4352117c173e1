"""Several jobs of several processes, started at the same moment on one machine."""

import os
import subprocess
import sys

SCRIPT = """
import torch
from jobc import Accelerator
accelerator = Accelerator()
print("gathered", accelerator.gather(torch.tensor([accelerator.process_index])).tolist(), flush=True)
"""


def test_jobs_of_one_moment_meet_each_at_a_place_of_its_own(folder):
    """Six jobs, through both launchers: no two take the same port, and none meets another's processes."""
    (folder / "train.py").write_text(SCRIPT)
    (folder / "job.yaml").write_text("script: train.py\nhardware: {kind: cpu, per_node: 2}\n")
    words = [sys.executable, "-m", "jobc", "run", "job.yaml"]
    jobs = [
        subprocess.Popen(
            [*words, f"launcher={launcher}", f"name=job{number}"],
            cwd=folder,
            env=dict(os.environ),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for number in range(3)
        for launcher in ("python", "torchrun")
    ]
    for job in jobs:
        out, err = job.communicate(timeout=150)
        assert job.returncode == 0, err
        assert sorted(out.splitlines()) == ["[0] gathered [0, 1]", "[1] gathered [0, 1]"]
