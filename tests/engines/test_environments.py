"""The engines that are Python packages, each in an environment of its own: they run here, and see what they should of ours."""

import os
import subprocess

import pytest
from ports import free_ports

DEEPSPEED = """
import deepspeed, jobc, torch
deepspeed.init_distributed("gloo")
torch.manual_seed(0)
model = torch.nn.Linear(8, 1)
config = {"train_micro_batch_size_per_gpu": 4, "zero_optimization": {"stage": 2}, "zero_allow_untested_optimizer": True}
optimizer = torch.optim.Adam(model.parameters(), lr=0.1)
engine, *_ = deepspeed.initialize(model=model, optimizer=optimizer, config=config)
for _ in range(40):
    loss = (engine(torch.ones(4, 8)) - 3).pow(2).mean()
    engine.backward(loss)
    engine.step()
assert loss.item() < 0.5
print(f"trained {engine.global_rank} of {engine.world_size}", flush=True)
"""


@pytest.fixture
def run(engine, folder):
    """Runs a program of an engine's environment; its output."""

    def start(name, *command, **variables):
        env = {**os.environ, "OMP_NUM_THREADS": "1", **engine(name).variables(os.environ["PATH"]), **variables}
        done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=200)
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
        return done.stdout

    return start


def test_deepspeed_trains(run, folder):
    """Two processes that its own launcher starts share what Adam keeps."""
    (folder / "train.py").write_text(DEEPSPEED)
    [port] = free_ports(1)
    seen = run("deepspeed", "deepspeed", "--num_accelerators", "2", "--master_port", str(port), "train.py")
    assert "trained 0 of 2" in seen
    assert "trained 1 of 2" in seen
