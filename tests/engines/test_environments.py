"""The engines that are Python packages, each in an environment of its own: they run here, and see what they should of ours."""

import os
import subprocess
import sys
from pathlib import Path

import processes
import pytest
from ports import free_ports

TOOLS = Path(processes.__file__).parent
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
torch.distributed.destroy_process_group()  # a gloo that is left open aborts now and then
"""
RAY = """
import ray
from ray.util.placement_group import placement_group
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

@ray.remote(num_cpus=1, num_gpus=4)
def where():
    import os, jobc, torch
    return ray.util.get_node_ip_address(), os.environ["CUDA_VISIBLE_DEVICES"]

group = placement_group([{"CPU": 1, "GPU": 4}] * 2, strategy="STRICT_SPREAD")
each = [PlacementGroupSchedulingStrategy(group, placement_group_bundle_index=index) for index in range(2)]
print(sorted(ray.get([where.options(scheduling_strategy=one).remote() for one in each])))
"""
XLA = """
import jobc, torch, torch_xla
torch.manual_seed(0)
device = torch_xla.device()
model = torch.nn.Linear(8, 1).to(device)
optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
for _ in range(40):
    with torch.autocast("xla", dtype=torch.bfloat16):
        loss = (model(torch.ones(4, 8, device=device)) - 3).pow(2).mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    torch_xla.sync()
assert loss.item() < 0.1
print("trained on", device.type)
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


def test_engine_ends_with_the_tests_that_started_it(tmp_path):
    """Where these are killed too: what carries the engine's mark is ended by a process that outlives them."""
    mark = str(tmp_path)
    script = (
        "import os, subprocess, processes, time\n"
        f"with processes.guarded(JOBC_TEST_MARK={mark!r}):\n"
        f"    subprocess.Popen(['sleep', '600'], env={{**os.environ, 'JOBC_TEST_MARK': {mark!r}}}, start_new_session=True)\n"
        "    time.sleep(600)\n"
    )

    def marked():
        return processes.matching(lambda pid: processes.variable(pid, "JOBC_TEST_MARK") == mark)

    tests = subprocess.Popen([sys.executable, "-c", script], env={**os.environ, "PYTHONPATH": str(TOOLS)})
    assert processes.until(marked, 30)
    tests.kill()
    tests.wait()
    assert processes.until(lambda: not marked(), 30)


def test_deepspeed_trains(run, folder):
    """Two processes that its own launcher starts share what Adam keeps."""
    (folder / "train.py").write_text(DEEPSPEED)
    [port] = free_ports(1)
    seen = run("deepspeed", "deepspeed", "--num_accelerators", "2", "--master_port", str(port), "train.py")
    assert "trained 0 of 2" in seen
    assert "trained 1 of 2" in seen


def test_ray_runs_a_job_on_both_nodes(ray_cluster, folder):
    """A job that is submitted is given a place on each node, with its GPUs."""
    (folder / "train.py").write_text(RAY)
    done = ray_cluster.run("ray", "job", "submit", "--working-dir", str(folder), "--", "python", "train.py")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "[('127.0.0.2', '0,1,2,3'), ('127.0.0.3', '0,1,2,3')]" in done.stdout


def test_xla_trains(run, folder):
    """A model on the XLA device of the processors, in bf16."""
    (folder / "train.py").write_text(XLA)
    assert "trained on xla" in run("xla", "python", "train.py")


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("sagemaker3", "from sagemaker.train import ModelTrainer"),
        ("sagemaker2", "from sagemaker.pytorch import PyTorch"),
    ],
)
def test_sagemaker_has_both_of_its_versions(run, folder, name, line):
    """What files written for one of them import is there, and only in its environment."""
    version = "from importlib.metadata import version; print(version('sagemaker'))"
    assert run(name, "python", "-c", f"{line}; {version}").splitlines()[-1].startswith(f"{name[-1]}.")


MODELS = """
import kubernetes_validate
from kubeflow.training.models import KubeflowOrgV1PyTorchJob
from kubeflow_trainer_api.models import JobsetV1alpha2JobSet, TrainerV1alpha1TrainJob
pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a"}, "spec": {"containers": [{"name": "b", "imag": "c"}]}}
try:
    kubernetes_validate.validate(pod, "1.37", strict=True)
except kubernetes_validate.ValidationError as refused:
    print("refused:", refused.message)
"""


def test_models_of_kubernetes_refuse_what_they_do_not_know(run, folder):
    """A field that no pod has is named."""
    (folder / "check.py").write_text(MODELS)
    assert "refused:" in (seen := run("kubernetes", "python", "check.py"))
    assert "'imag' was unexpected" in seen


def test_podman_runs_a_pod_to_its_end(podman):
    """Each container's output and exit code; the image has this machine's Python, with torch and jobc."""
    script = "import os, jobc, torch; print(os.environ['SAID'], torch.ones(1).item()); raise SystemExit(3)"
    trains = {
        "name": "trains",
        "image": "localhost/machine:1",
        "command": [sys.executable, "-c", script],
        "env": [{"name": "SAID", "value": "it's $HOME"}],
    }
    passes = {"name": "passes", "image": "localhost/machine:1", "command": ["bash", "-c", "echo passed"]}
    spec = {"restartPolicy": "Never", "containers": [trains, passes]}
    ended = podman.play({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "pod"}, "spec": spec})
    assert ended == {"trains": (3, "it's $HOME 1.0\n"), "passes": (0, "passed\n")}
