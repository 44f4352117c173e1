"""Jobs of jobc on the Slurm of the tests."""

import json
import os
import time
from pathlib import Path


class Cluster:
    """The cluster, and what tests do with jobs on it."""

    def __init__(self, slurm, folder, jobc):
        self.slurm, self.folder, self.jobc = slurm, folder, jobc

    def write(self, script, text="", target="slurm", nodes=2, per_node=1):
        (self.folder / "train.py").write_text(script)
        (self.folder / "job.yaml").write_text(
            f"script: train.py\nname: train\nhardware: {{kind: cpu, per_node: {per_node}}}\nnodes: {nodes}\n"
            f"target: {target}\n{text}"
        )

    def run(self, *words):
        return self.jobc("run", "job.yaml", *words)

    def submit(self, *words):
        """Hands a job over; the run's name and Slurm's number."""
        done = self.run("-d", *words)
        assert done.returncode == 0, done.stderr
        run = done.stdout.split()[-1]
        return run, self.record(run)["captured"]["job_id"]

    def home(self, run):
        return Path(os.environ["XDG_STATE_HOME"]) / "jobc" / "runs" / run

    def record(self, run):
        return json.loads((self.home(run) / "record.json").read_text())

    def state(self, job):
        return self.slurm.run("squeue", "--noheader", "--states=all", f"--jobs={job}", "--format=%T").strip()

    def until(self, condition, seconds=60):
        end = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < end, "it never came to pass"
            time.sleep(0.1)
