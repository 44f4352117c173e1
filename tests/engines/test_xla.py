"""The launcher `xla` with torch_xla, for real, on its CPU device in place of TPUs."""

import json
import os

import pytest

MAIN = """
import os, sys, torch, torch_xla
import torch_xla.core.xla_model as xm

def train(number):
    model = torch.nn.Linear(4, 1).to(xm.xla_device())
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(60):
        loss = (model(torch.ones(4, 4, device=xm.xla_device())) - 3).pow(2).mean()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        torch_xla.sync()
    print(number, sys.argv[1:], __name__, "good" if loss.item() < 0.1 else loss.item(), flush=True)

if __name__ == "__main__":
    torch_xla.launch(train)
"""
SPMD = """
import os, numpy as np, torch, torch_xla.runtime as xr, torch_xla.core.xla_model as xm, torch_xla.distributed.spmd as xs
mesh = xs.Mesh(np.arange(xr.global_runtime_device_count()), (xr.global_runtime_device_count(),), ("data",))
x = torch.ones(8, 4).to(xm.xla_device())
xs.mark_sharding(x, mesh, ("data", None))
print(xr.is_spmd(), xr.global_runtime_device_count(), (x @ x.T).sum().item(), flush=True)
"""


@pytest.fixture
def job(folder, engine):
    """Writes a job for TPUs that computes on the CPU."""
    xla = engine("xla")

    def write(script, name="train.py", **more):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(script)
        env = {**xla.variables(os.environ["PATH"]), "PJRT_DEVICE": "CPU", **more.pop("env", {})}
        (folder / "job.yaml").write_text(json.dumps({"script": name, "python": xla.python, "env": env, **more}))

    return write


def torch_xla(**more):
    return {"hardware": {"kind": "tpu", "type": "v6e-1", "runtime": "torch_xla"}, **more}


def test_script_that_starts_its_processes_itself_runs(jobc_command, job):
    """With the job's own variable it computes on the CPU."""
    job(MAIN, args=["--n", "a b"], **torch_xla())
    done = jobc_command("run", "job.yaml")
    assert (done.returncode, done.stdout) == (0, "0 ['--n', 'a b'] __mp_main__ good\n"), done.stderr


@pytest.mark.parametrize("name", ["train.py", "below/train.py"])
def test_function_of_a_script_is_called(jobc_command, job, name):
    """The script is imported and not run: its own `launch` is not called."""
    job(MAIN, name, args=["--n", "a b"], function="train", **torch_xla())
    done = jobc_command("run", "job.yaml")
    assert (done.returncode, done.stdout) == (0, "0 ['--n', 'a b'] train good\n"), done.stderr


def test_function_of_a_module_is_called(jobc_command, job, folder):
    """As `python -m` finds it."""
    job(MAIN, "pkg/train.py", function="train", **torch_xla())
    said = json.loads((folder / "job.yaml").read_text())
    (folder / "job.yaml").write_text(json.dumps({**said, "script": None, "module": "pkg.train"}))
    done = jobc_command("run", "job.yaml")
    assert (done.returncode, done.stdout) == (0, "0 [] pkg.train good\n"), done.stderr


def test_function_that_fails_ends_the_run(jobc_command, job):
    """With the exit code of Python and its traceback."""
    job("def train(number):\n    raise SystemError('no such chip')\n", function="train", **torch_xla())
    done = jobc_command("run", "job.yaml")
    assert done.returncode == 1
    assert "SystemError: no such chip" in done.stderr


def test_one_process_computes_on_all_devices(jobc_command, job):
    """XLA cuts the computation over four of them."""
    hardware = {"kind": "tpu", "type": "v6e-4", "runtime": "spmd"}
    job(SPMD, hardware=hardware, env={"CPU_NUM_DEVICES": "4"})
    done = jobc_command("run", "job.yaml")
    assert (done.returncode, done.stdout) == (0, "True 4 256.0\n"), done.stderr
