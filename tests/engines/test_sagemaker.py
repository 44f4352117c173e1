"""Training jobs of SageMaker as far as they go without it: the containers' script on two hosts, the SDK's requests."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest
from containers import ADDRESSES, created, uploaded
from fake_aws import FakeAws
from jobc.cli.api import load, plan
from jobc.compiler.sagemaker.sdk import render_v2, render_v3
from jobc.spec.catalogue.sagemaker import facts
from sagemaker_jobs import FULL

TRAIN = """
import os, sys, torch
from pathlib import Path
from jobc import Accelerator
accelerator = Accelerator()
torch.manual_seed(0)
model = torch.nn.Linear(4, 1)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
model, optimizer = accelerator.prepare(model, optimizer)
x = torch.randn(64, 4, generator=torch.Generator().manual_seed(accelerator.process_index))
y = x.sum(1, keepdim=True)
losses = []
for _ in range(40):
    loss = torch.nn.functional.mse_loss(model(x), y)
    accelerator.backward(loss)
    optimizer.step()
    optimizer.zero_grad()
    losses.append(accelerator.gather(loss.detach()).mean().item())
ranks = accelerator.gather(torch.tensor([accelerator.process_index])).tolist()
if accelerator.is_main_process:
    Path("checkpoints/kept").write_text("state")
    Path(os.environ["SM_MODEL_DIR"], "model").write_text("weights")
print("trained", ranks, losses[-1] < losses[0] / 10, sys.argv[1:], os.environ["WORD"], os.environ["SM_CHANNEL_DATA"], flush=True)
"""
FAIL = """
import os, sys, time
if os.environ["RANK"] == "1":
    print("rank one is unwell", file=sys.stderr)
    sys.exit(7)
time.sleep(600)
"""
WAIT = """
import signal, sys, time
from pathlib import Path
signal.signal(signal.SIGTERM, lambda *_: (Path("checkpoints/saved").write_text("x"), sys.exit(0)))
Path("checkpoints/ready").write_text("x")
time.sleep(600)
"""
JOB = """\
name: train
script: train.py
args: ["a 'b' $HOME", ""]
python: {python}
hardware: {{kind: cpu, per_node: {per_node}}}
nodes: {{count: {nodes}}}
env: {{WORD: "it's $$ `x`"}}
target:
  kind: sagemaker
  region: us-east-1
  role: arn:aws:iam::123456789012:role/training
  instance_type: ml.m5.xlarge
  output: s3://bucket/runs
  checkpoint_s3: s3://bucket/kept
  channels: {{data: s3://bucket/data}}
"""


def wait_for(condition, seconds=60):
    """Until something is so; what is never so fails the test."""
    for _ in range(seconds * 20):
        if condition():
            return
        time.sleep(0.05)
    raise AssertionError("it never came to pass")


@pytest.fixture
def job(folder):
    """The plan of a script on so many hosts."""

    def make(script, *words, nodes=2, per_node=2):
        (folder / "train.py").write_text(script)
        (folder / "job.yaml").write_text(JOB.format(python=sys.executable, nodes=nodes, per_node=per_node))
        return plan(load("job.yaml", words, env={}))

    return make


@pytest.mark.parametrize(
    "words",
    [(), ("nodes.rendezvous.backend=static",), ("launcher=python",)],
    ids=["c10d", "static", "python"],
)
def test_two_hosts_train_together(containers, job, folder, tmp_path, words):
    """Four processes of two hosts train one model; arguments, variables and places are those of the job."""
    running = containers.run(job(TRAIN, *words), folder, tmp_path / "ml")
    codes = [process.wait(240) for process in running]
    logs = [(tmp_path / "ml" / name / "log").read_text() for name in ADDRESSES]
    assert codes == [0, 0], "\n".join(logs)
    words = """["a 'b' $HOME", ''] it's $$ `x` /opt/ml/input/data/data"""
    for node, log in enumerate(logs):
        lines = sorted(line for line in log.splitlines() if "trained" in line)
        assert lines == [f"[{rank}] trained [0, 1, 2, 3] True {words}" for rank in (2 * node, 2 * node + 1)], log
    first = tmp_path / "ml/algo-1"
    assert (first / "checkpoints/kept").read_text() == "state"
    assert (first / "model/model").read_text() == "weights"
    assert not (first / "output/failure").exists()


def test_failure_is_what_the_console_shows(containers, job, folder, tmp_path):
    """The end of stderr and the exit code stand in the file that SageMaker reads."""
    (running,) = containers.run(job(FAIL, "launcher=python", nodes=1), folder, tmp_path / "ml")
    assert running.wait(60) == 7
    reason = (tmp_path / "ml/algo-1/output/failure").read_text()
    assert reason.startswith("node 0: exit code 7\n")
    assert "[1] rank one is unwell" in reason
    assert "[1] rank one is unwell" in (tmp_path / "ml/algo-1/log").read_text()


def test_job_that_is_stopped_asks_its_processes(containers, job, folder, tmp_path):
    """SIGTERM, which SageMaker sends two minutes before it ends a container, reaches the training, which may save."""
    (running,) = containers.run(job(WAIT, nodes=1, per_node=1), folder, tmp_path / "ml")
    kept = tmp_path / "ml/algo-1/checkpoints"
    wait_for((kept / "ready").exists)
    running.send_signal(signal.SIGTERM)
    assert running.wait(60) == 0
    assert (kept / "saved").exists()


def test_host_that_does_not_belong_says_so(containers, job, folder, tmp_path):
    """Another number of hosts than the job's is the reason of the failure."""
    (running,) = containers.run(job(TRAIN), folder, tmp_path / "ml", hosts=1)
    assert running.wait(60) == 1
    reason = (tmp_path / "ml/algo-1/output/failure").read_text()
    assert reason == "the job has 2 nodes, and SageMaker says 1\n"


@pytest.mark.parametrize(("version", "render"), [("sagemaker3", render_v3), ("sagemaker2", render_v2)])
def test_sdk_asks_for_what_the_plan_asks_for(engine, folder, tmp_path, version, render):
    """The rendered file, run with the real SDK against a fake of Amazon's services: what differs is listed here."""
    sdk = engine(version)
    (folder / "job.yaml").write_text(FULL)
    made = plan(load("job.yaml", (), env={}))
    (tmp_path / "file.py").write_text(render(made))
    with FakeAws() as fake:
        env = {"TOKEN": "secret", "HOME": str(tmp_path), **sdk.variables(os.environ["PATH"]), **fake.variables}
        command = [sdk.python, tmp_path / "file.py", folder]
        done = subprocess.run(command, env=env, capture_output=True, text=True, check=False, timeout=240)
    assert done.returncode == 0, done.stdout + done.stderr
    (sent,), planned = fake.created, created(made)
    ours, theirs = channels(planned), channels(sent)
    code = theirs.pop("code")["DataSource"]["S3DataSource"]["S3Uri"].rstrip("/").removeprefix("s3:/")
    ours.pop("code")
    for file, content in uploaded(made, folder).items():  # in a folder that the SDK chose, byte for byte
        assert fake.objects[f"{code}/{file}"] == content
    for request in (sent, planned):  # a name is made of the time
        request.pop("TrainingJobName")
    if version == "sagemaker3":  # a script of the SDK prepares its own variables and starts ours
        drivers = theirs.pop("sm_drivers")["DataSource"]["S3DataSource"]["S3Uri"].removeprefix("s3:/")
        assert b"bash /opt/ml/input/data/code/node.sh" in fake.objects[f"{drivers}/sm_train.sh"]
        for request in (sent, planned):
            request["AlgorithmSpecification"].pop("ContainerArguments")
        assert sent["OutputDataConfig"].pop("CompressionType") == "GZIP"  # what is so where nothing is said
    else:  # an entry point of the SDK's own, which the container does not start; its profiler is off
        theirs.pop("entry")
        assert sent.pop("ProfilerConfig") == {"DisableProfiler": True}
        for name in [name for name in sent["HyperParameters"] if name.startswith("sagemaker_")]:
            sent["HyperParameters"].pop(name)
    assert theirs == ours
    assert sent == planned


def channels(request):
    """The channels of a request by name, taken out of it: their order means nothing."""
    return {channel["ChannelName"]: channel for channel in request.pop("InputDataConfig")}


def test_images_are_those_of_the_sdk(engine):
    """Account and domain of every region, repository and tag of every version and device."""
    asked = [(region, "2.13", "gpu") for region in facts().accounts]
    asked += [("us-east-1", torch, device) for torch in facts().images for device in ("gpu", "cpu")]
    ours = [facts().image(*each) for each in asked]
    done = subprocess.run(
        [engine("sagemaker3").python, "-c", IMAGES], input=json.dumps(asked), capture_output=True, text=True, check=True
    )
    assert json.loads(done.stdout.splitlines()[-1]) == ours


IMAGES = """
import json, sys
from sagemaker.core import image_uris
types = {"gpu": "ml.p4d.24xlarge", "cpu": "ml.m5.xlarge"}
found = []
for region, torch, device in json.load(sys.stdin):
    framework = "pytorch" if int(torch.split(".")[1]) < 11 else "pytorch-amzn2023"
    found.append(
        image_uris.retrieve(framework, region, version=torch, instance_type=types[device], image_scope="training")
    )
print(json.dumps(found))
"""
