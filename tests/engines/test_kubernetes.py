"""`target: kubernetes` with the real kubectl and a fake of the API's server, in real pods, and against published models."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from base64 import b64decode
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import yaml
from environments import Environment
from fake_apiserver import FakeServer, expanded
from jobc.cli.api import load, plan
from jobc.compiler.plan import WriteFile
from pods import IMAGE, ROOT
from ports import free_ports

APIS = ("trainjob", "pytorchjob", "jobset")
WORLD = """
import os, torch, torch.distributed as dist
from jobc import Accelerator
accelerator = Accelerator()
total = accelerator.reduce(torch.tensor(accelerator.process_index + 1.0))
print("sum", total.item(), "of", accelerator.num_processes, "on", os.environ.get("GROUP_RANK"), flush=True)
accelerator.end_training()
"""


@pytest.fixture
def cluster(tmp_path):
    """A fake cluster that starts pods on this machine, and the real kubectl."""
    if shutil.which("kubectl") is None:
        pytest.skip("kubectl is not installed: make engines")
    (tmp_path / "cluster").mkdir()
    with FakeServer(tmp_path / "cluster") as server:
        yield server


@pytest.fixture
def job(cluster, folder):
    """Writes a job for the fake cluster, whose containers see this machine's files."""

    def write(script, more="", api="trainjob", hardware="{kind: cpu, per_node: 2}", target=""):
        (folder / "train.py").write_text(script)
        (folder / "job.yaml").write_text(
            f"script: train.py\nname: train\npython: {sys.executable}\nhardware: {hardware}\n"
            f"target: {{kind: kubernetes, api: {api}, image: none, kubeconfig: {cluster.kubeconfig}, folder: {folder}{target}}}\n"
            f"{more}"
        )

    return write


def meeting(count=2):
    """Nodes that meet on this machine, where no names of pods are known."""
    (port,) = free_ports(1)
    return f"nodes: {{count: {count}, rendezvous: {{address: 127.0.0.1, port: {port}}}}}\n"


def until(condition):
    """Until something is so; what is never so fails the test."""
    for _ in range(600):
        if found := condition():
            return found
        time.sleep(0.1)
    raise AssertionError("it never came to pass")


@pytest.mark.parametrize("api", APIS)
def test_run_is_carried_out_by_the_cluster(jobc_command, cluster, job, api):
    """Two nodes of two processes meet, whatever the controller says; output comes with ranks, the record with the end."""
    job(WORLD, meeting(), api)
    done = jobc_command("run", "job.yaml")
    assert done.returncode == 0, done.stderr + done.stdout
    said = sorted(re.findall(r"\[pod/train-\S+\] \[(\d)\] sum (\S+) of (\d) on", done.stdout))
    assert said == [(str(rank), "10.0", "4") for rank in range(4)]
    status = jobc_command("status", "last").stdout
    assert "succeeded after" in status
    assert re.search(rf"^object +{api}\.\S+/train-", status, re.MULTILINE)
    logs = jobc_command("logs", "--rank", "1", "last").stdout.splitlines()
    assert logs
    assert all("] [1] " in line for line in logs)


def test_exit_code_is_that_of_the_container(jobc_command, job):
    """A run that fails ends with the code of what failed, also for `jobc wait`."""
    job("raise SystemExit(7)", hardware="cpu")
    done = jobc_command("run", "job.yaml")
    assert done.returncode == 7, done.stderr
    assert jobc_command("wait", "last").returncode == 7
    assert "failed with exit code 7" in jobc_command("status", "last").stdout


def test_time_limit_of_the_object_has_its_exit_code(jobc_command, cluster, job):
    """What Kubernetes ended for its time is told from other failures."""
    job("import time; time.sleep(60)", "limits: {minutes: 3}\n", hardware="cpu")
    assert jobc_command("run", "--detach", "job.yaml").returncode == 0
    ((_, name),) = cluster.cluster.objects
    assert cluster.cluster.objects["trainjobs", name]["spec"]["activeDeadlineSeconds"] == 180
    cluster.cluster.deadlines.add(name)
    assert jobc_command("wait", "last").returncode == 124


STAYS = """
import pathlib, signal, sys, time
def end(*_):
    pathlib.Path("asked").write_text("to end")
    sys.exit(0)
signal.signal(signal.SIGTERM, end)
print("begun", flush=True)
time.sleep(100)
"""


def test_stop_deletes_the_object_and_asks_its_processes(jobc_command, cluster, job, folder):
    """SIGTERM reaches the process behind the shell of its container; the run counts as stopped."""
    job(STAYS, hardware="cpu")
    assert jobc_command("run", "--detach", "job.yaml").returncode == 0
    until(lambda: "begun" in jobc_command("logs", "last").stdout)
    assert "running" in jobc_command("status", "last").stdout
    done = jobc_command("stop", "last")
    assert done.returncode == 0, done.stderr
    assert (folder / "asked").read_text() == "to end"
    assert cluster.cluster.objects == {}
    assert "stopped" in jobc_command("status", "last").stdout
    assert jobc_command("wait", "last").returncode == 128 + signal.SIGTERM


def test_run_waits_for_its_pods(cluster, job, folder):
    """A run that no machine has room for is pending, then it is followed as it goes."""
    job(WORLD)
    cluster.cluster.held = True
    words = [sys.executable, "-m", "jobc", "run", "job.yaml"]
    running = subprocess.Popen(words, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert running.stderr is not None
    until(lambda: "pending" in running.stderr.readline())
    cluster.cluster.release()
    out, err = running.communicate(timeout=120)
    assert running.returncode == 0, err
    assert out.count(" sum 3.0 of 2 ") == 2


def test_object_that_somebody_deleted_is_a_run_that_was_stopped(jobc_command, cluster, job):
    """kubectl and others may end what jobc began."""
    job("import time; time.sleep(100)", hardware="cpu")
    assert jobc_command("run", "--detach", "job.yaml").returncode == 0
    cluster.cluster.stop()
    assert "stopped" in jobc_command("status", "last").stdout


def test_server_that_does_not_answer_leaves_the_run_as_it_is(jobc_command, cluster, job):
    """Its state is not known, and why; it is not taken for ended."""
    job("import time; time.sleep(100)", hardware="cpu")
    assert jobc_command("run", "--detach", "job.yaml").returncode == 0
    cluster.kubeconfig.write_text(cluster.kubeconfig.read_text().replace("127.0.0.1", "127.0.0.9"))
    status = jobc_command("status", "last").stdout
    assert "its state is not known" in status
    assert "127.0.0.9" in status


def test_preflight_asks_the_server(jobc_command, cluster, job):
    """An object that the server would not take is a finding before anything is made."""
    version = json.loads(
        subprocess.run(["kubectl", "version", "--client", "-o", "json"], capture_output=True, check=True).stdout
    )
    if int(version["clientVersion"]["minor"].rstrip("+")) < 27:
        pytest.skip("this kubectl asks for trials in a form that the fake server does not speak")
    job("pass", hardware="cpu")
    done = jobc_command("check", "--preflight", "job.yaml")
    assert done.returncode == 0, done.stdout + done.stderr
    job("pass", hardware="cpu", target=", extra: {spec: {activeDeadlineSeconds: many}}")
    done = jobc_command("check", "--preflight", "job.yaml")
    assert done.returncode != 0
    if "J431" not in done.stdout + done.stderr:
        pytest.skip("the fake server knows no definitions: ../shared/crds")
    assert "'many' is not of type 'integer'" in done.stdout + done.stderr
    assert cluster.cluster.objects == {}


def test_secrets_come_from_the_cluster(jobc_command, job, folder):
    """This machine does not have the value, and no file of the run has it."""
    script = "import os; open('seen', 'w').write(os.environ['TOKEN'])"
    job(script, "secrets: [TOKEN]\n", hardware="cpu", target=", secret: keys")
    done = jobc_command("run", "job.yaml")
    assert done.returncode == 0, done.stderr
    assert (folder / "seen").read_text() == "it's a\nsecret"


# --- hostile strings ------------------------------------------------------------------------------------------------

PIECES = [
    "'", '"', "\n", "\r", "\t", "$", "$$", "$HOME", "${HOME}", "$(touch pwned)", "$(HOME)", "$$(HOME)", "$(", "`touch pwned`", "\\", "--", "-n",
    "=", " ", "*", "!", "#", "~", ";", "&", "|", "<<EOF\n", ")", "%s", "é", "日本", "\U0001f600", "\u2028", "\x85", "\x1b[31m", "\x01", "\x7f",
    "\ufeff", "a", "0", "null", "1e3", "yes", "{{ x }}", "EOF", "}", "\n}\n", "${rank}", ": ", "- ", "|\n", "? ", "&a ", "!!str ",
]  # fmt: skip
SEES = """
import base64, json, os, sys
def plain(text):
    return base64.b64encode(os.fsencode(text)).decode()
names = sorted((name for name in os.environ if name[:1] == "V" and name[1:].isdigit()), key=lambda name: int(name[1:]))
print("SEEN" + json.dumps([[plain(word) for word in sys.argv[1:]], [plain(os.environ[name]) for name in names]]))
"""


def hostile(seed, count=60):
    from random import Random

    pick = Random(seed)
    return [
        "--",
        *("".join(pick.choice(PIECES) for _ in range(pick.randrange(7))) for _ in range(count)),
        "$$ it's " * 500,
    ]


def escaped(text):
    """A text as the document has it, where `${` begins an interpolation."""
    return re.sub(r"(\\*)\$\{", lambda found: found[1] * 2 + "\\${", text)


def write_hostile(folder, launcher, options=(), **target):
    args, env = hostile(1), hostile(2)
    document = {
        "script": "train.py",
        "name": "train",
        "python": sys.executable,
        "hardware": "cpu",
        "launcher": launcher,
        "launcher_args": list(options),
        "args": [escaped(text) for text in args],
        "env": {f"V{index}": escaped(text) for index, text in enumerate(env)},
        "target": {"kind": "kubernetes", "image": "none", "folder": str(folder), **target},
    }
    (folder / "train.py").write_text(SEES)
    (folder / "job.yaml").write_text(yaml.safe_dump(document, allow_unicode=False))
    return [args, env]


def assert_seen(text, expected):
    seen = json.loads(text.partition("SEEN")[2].splitlines()[0])
    for found, words in zip(seen, expected, strict=True):
        assert [os.fsdecode(b64decode(word)) for word in found] == words


@pytest.mark.parametrize("launcher", ["python", "torchrun"])
@pytest.mark.parametrize("api", APIS)
def test_strings_arrive_through_kubectl(jobc_command, cluster, folder, api, launcher):
    """Through YAML, kubectl, JSON, what a kubelet expands, bash and the launcher, byte for byte."""
    expected = write_hostile(folder, launcher, api=api, kubeconfig=str(cluster.kubeconfig))
    done = jobc_command("run", "job.yaml")
    assert done.returncode == 0, done.stderr[-3000:]
    assert_seen(done.stdout, expected)
    assert not list(folder.rglob("pwned"))


# --- real pods ------------------------------------------------------------------------------------------------------

#: A cluster knows its pods by their names; a podman on the network of its machine does not.
HERE = "--local-addr=127.0.0.1"


def pods_of(job, name, *overrides):
    """The pods of a job for a podman without a cluster: what the JobSet says, and the index that its controller gives."""
    made = plan(load(job, (*overrides, "target.api=jobset", f"target.image={IMAGE}"), env={}))
    (step,) = (step for step in made.submit if isinstance(step, WriteFile))
    names = {"run_word": name, "run_id": name, "packed_spec": made.packed_document()}
    text = "".join(part if isinstance(part, str) else names[part.ref] for part in step.content)
    jobset = yaml.safe_load(text)
    inner = jobset["spec"]["replicatedJobs"][0]["template"]["spec"]
    for index in range(inner["completions"]):
        pod = json.loads(json.dumps(inner["template"]))
        container = pod["spec"]["containers"][0]
        assert [expanded(word, {"HOME": "/"}) for word in container["command"]] == container["command"]
        container["env"] = [
            {"name": "JOB_COMPLETION_INDEX", "value": str(index)},
            {"name": "PET_NNODES", "value": "77"},
        ]
        yield {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": f"{name}-{index}", **pod["metadata"]},
            "spec": pod["spec"],
        }


def test_digits_are_learned_in_two_pods(podman, tmp_path, monkeypatch):
    """The example, in two real pods of one process each, which meet: it reads the digits as well as anywhere."""
    monkeypatch.chdir(ROOT / "examples" / "digits")
    (port,) = free_ports(1)
    words = (
        "target={kind: kubernetes, folder: '" + str(ROOT / "examples" / "digits") + "'}",
        f"python={sys.executable}",
        "args=[--out, /tmp/out]",
        "nodes={count: 2, rendezvous: {address: 127.0.0.1, port: " + str(port) + "}}",
        "hardware={kind: cpu, per_node: 1, threads_per_process: 1}",
        "env.GLOO_SOCKET_IFNAME=lo",
        f"launcher_args=['{HERE}']",
    )

    with ThreadPoolExecutor() as threads:
        ended = [said["node"] for said in threads.map(podman.play, pods_of("job.yaml", "digits", *words))]
    assert [code for code, _ in ended] == [0, 0], ended
    text = "".join(text for _, text in ended)
    assert float(re.findall(r"test accuracy (\d\.\d+)", text)[-1]) > 0.97, text


def test_strings_arrive_in_a_pod(podman, tmp_path, monkeypatch):
    """The object that kubectl would be given, in a real container."""
    project = ROOT / ".engines" / f"hostile-{os.getpid()}"  # a folder that containers see
    project.mkdir(parents=True)
    try:
        monkeypatch.chdir(project)
        expected = write_hostile(project, "torchrun", [HERE])
        (pod,) = pods_of("job.yaml", "hostile")
        code, text = podman.play(pod)["node"]
        assert code == 0, text
        assert_seen(text, expected)
    finally:
        shutil.rmtree(project)


# --- published models -----------------------------------------------------------------------------------------------

MODELS = """
import json, sys
import kubernetes_validate
from kubeflow.training.models import KubeflowOrgV1PyTorchJob
from kubeflow_trainer_api.models import JobsetV1alpha2JobSet, TrainerV1alpha1TrainJob

def pods(value):
    if isinstance(value, dict):
        if "containers" in value and "restartPolicy" in value:
            yield value
        for item in value.values():
            yield from pods(item)
    elif isinstance(value, list):
        for item in value:
            yield from pods(item)

for value in json.load(sys.stdin):
    if value["kind"] != "PyTorchJob":
        model = {"TrainJob": TrainerV1alpha1TrainJob, "JobSet": JobsetV1alpha2JobSet}[value["kind"]]
        assert model.from_dict(value).metadata.name == value["metadata"]["name"]
    for spec in pods(value):
        whole = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a"}, "spec": spec}
        kubernetes_validate.validate(whole, "1.37", strict=True)
        print(value["kind"], "has a pod")
"""


def test_published_models_know_the_objects():
    """The models of Kubeflow take them, and every pod in them is one of Kubernetes, to the last field."""
    environment = Environment("kubernetes")
    if not environment.installed:
        pytest.skip("the models of Kubernetes are not installed: make engines")
    goldens = sorted((Path(__file__).parents[1] / "compiler" / "golden").glob("kubernetes-*.yaml"))
    values = [yaml.safe_load(path.read_text()) for path in goldens]
    done = subprocess.run([environment.python, "-c", MODELS], input=json.dumps(values), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert sorted(done.stdout.splitlines()) == ["JobSet has a pod", *["PyTorchJob has a pod"] * 2]
