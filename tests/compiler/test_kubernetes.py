"""Objects of Kubernetes: what they say, and that the published definitions know every word of it."""

import re
import subprocess
from pathlib import Path

import crds
import pytest
import yaml
from jobc.compiler.plan import WriteFile
from jobc.compiler.yaml_text import document
from jobc.spec.findings import FindingsError

APIS = ("trainjob", "pytorchjob", "jobset")
GOLDEN = Path(__file__).parent / "golden"
JOBS = {
    "two processes": "script: train.py\nhardware: {kind: cpu, per_node: 2}\n",
    "eight GPUs on four nodes": """
script: train.py
args: [--name, "it's $(x) $$HOME"]
env: {GREETING: "héllo\\n$(pwd)"}
secrets: [HF_TOKEN, WANDB_API_KEY]
setup: [source /opt/env/bin/activate]
hardware: {kind: gpu, per_node: 8, model: h100}
nodes: {count: 4, max_restarts: 2}
limits: {minutes: 90, memory: 64GiB}
target:
  kind: kubernetes
  namespace: team-a
  secret: keys
  folder: /workspace/train
  volumes: {/data: "claim:datasets:ro", /mnt: "host:/mnt/nvme", /etc/train: "config:settings", /keys: "secret:kaggle:ro", /tmp/a: scratch, /tmp/b: scratch:100Gi}
  shared_memory: 16Gi
  cpu: 64
  memory: 512Gi
  node_selector: {cloud.google.com/gke-accelerator: nvidia-h100-80gb, spot: true}
  tolerations: [nvidia.com/gpu, "pool=training:NoSchedule", "old:NoExecute"]
  service_account: trainer
  image_pull_secrets: [registry]
  grace_seconds: 120
  extra: {metadata: {labels: {kueue.x-k8s.io/queue-name: train}}}
""",
    "AMD": "script: train.py\nhardware: {kind: gpu, per_node: 8, model: mi300x}\n",
    "a process on each of three nodes": "module: pkg.train\nlauncher: python\nhardware: cpu\nnodes: 3\n",
}
TPU = "script: train.py\nhardware: {kind: tpu, type: v6e-16}\n"
BASE = ("target.image=registry/train:1",)


@pytest.fixture
def objects(planned):
    """The file of a job's object as text with names in its placeholders, and what it says."""

    def made(text, *overrides):
        kind = () if "kind: kubernetes" in text else ("target=kubernetes",)
        plan = planned(text, *kind, *BASE, *overrides)
        (step,) = (step for step in plan.submit if isinstance(step, WriteFile))
        names = {"run_word": "train-1", "run_id": "train-1", "packed_spec": "z:eJw="}
        parts = (step.content,) if isinstance(step.content, str) else step.content
        written = "".join(part if isinstance(part, str) else names[part.ref] for part in parts)
        return written, yaml.safe_load(written)

    return made


def known(value):
    if not crds.FOLDER.is_dir():
        pytest.skip(crds.MISSING)
    return crds.faults(value)


@pytest.mark.parametrize("api", APIS)
@pytest.mark.parametrize("name", JOBS)
def test_object_is_one_that_its_definition_knows(objects, api, name):
    """Every field exists and has the right form; a server would drop others without a word."""
    _, value = objects(JOBS[name], f"target.api={api}")
    assert known(value) == []


@pytest.mark.parametrize("api", ["trainjob", "jobset"])
def test_slice_of_tpus_is_asked_for_as_gke_has_it(objects, api):
    """Chips of each machine, its type and topology, and all pods on one slice."""
    text, value = objects(TPU, f"target.api={api}")
    assert known(value) == []
    assert "google.com/tpu: 4" in text
    assert "cloud.google.com/gke-tpu-accelerator: tpu-v6e-slice" in text
    assert 'cloud.google.com/gke-tpu-topology: "4x4"' in text
    assert "alpha.jobset.sigs.k8s.io/exclusive-topology: cloud.google.com/gke-nodepool" in text


@pytest.mark.parametrize("api", APIS)
def test_object_is_the_committed_one(objects, golden, api):
    """The whole file of a large job."""
    text, _ = objects(JOBS["eight GPUs on four nodes"], f"target.api={api}")
    golden(GOLDEN / f"kubernetes-{api}.yaml", text)


def test_definition_refuses_what_it_does_not_know(objects):
    """The check itself: an unknown field, a wrong type, a name given twice."""
    _, value = objects(JOBS["two processes"], "target.extra={spec: {trainer: {nodes: 2}, activeDeadlineSeconds: many}}")
    faults = known(value)
    assert any("'nodes' was unexpected" in fault for fault in faults)
    assert any("'many' is not of type 'integer'" in fault for fault in faults)
    value["spec"]["trainer"]["env"] = [{"name": "A"}, {"name": "A"}]
    assert any("the same name" in fault for fault in known(value))
    pods = "[{name: node, template: {spec: {template: {spec: {containers: [{name: node, imagePolicy: Always}]}}}}}]"
    _, value = objects(JOBS["two processes"], "target.api=jobset", f"target.extra={{spec: {{replicatedJobs: {pods}}}}}")
    assert ["imagePolicy" in fault for fault in known(value)] == [True]


@pytest.mark.parametrize(("model", "resource"), [("h100", "nvidia.com/gpu"), ("mi300x", "amd.com/gpu")])
def test_gpus_are_counted_as_their_maker_calls_them(objects, model, resource):
    """By the plugins of NVIDIA and AMD, or another name that the job says."""
    job = f"script: train.py\nhardware: {{kind: gpu, per_node: 8, model: {model}}}\n"
    _, value = objects(job)
    assert value["spec"]["trainer"]["resourcesPerNode"] == {"limits": {resource: 8}}
    _, value = objects(job, "target.gpu_resource=example.com/gpu")
    assert value["spec"]["trainer"]["resourcesPerNode"] == {"limits": {"example.com/gpu": 8}}


def test_extra_is_merged_by_names(objects):
    """Mappings and lists of named entries are added to."""
    extra = (
        "target.extra={spec: {ttlSecondsAfterFinished: 60, replicatedJobs: [{name: node, template: {spec: {template:"
        " {spec: {hostNetwork: true, containers: [{name: node, imagePullPolicy: Always}, {name: side, image: other}]}}}}}]}}"
    )
    _, value = objects(JOBS["two processes"], "target.api=jobset", extra)
    assert known(value) == []
    assert value["spec"]["ttlSecondsAfterFinished"] == 60
    pod = value["spec"]["replicatedJobs"][0]["template"]["spec"]["template"]["spec"]
    assert pod["hostNetwork"] is True
    assert [item["name"] for item in pod["containers"]] == ["node", "side"]
    assert pod["containers"][0]["imagePullPolicy"] == "Always"
    assert pod["containers"][0]["image"] == "registry/train:1"


@pytest.mark.parametrize(
    ("extra", "path"),
    [
        ("{spec: {trainer: {numNodes: 3}}}", "spec.trainer.numNodes"),
        ("{spec: {trainer: {command: [sh]}}}", "spec.trainer.command"),
        ("{metadata: {name: mine, labels: {a: b}}}", "metadata.name"),
        ("{apiVersion: kubeflow.org/v1}", "apiVersion"),
        ("{spec: {trainer: {env: [{name: MORE, value: a}]}, suspend: true}}", None),
    ],
)
def test_extra_that_a_field_says_is_refused(objects, extra, path):
    """What the plan sets is set once; more of what it leaves open is welcome."""
    refused = []
    try:
        objects(JOBS["two processes"], "env.A=b", f"target.extra={extra}")
    except FindingsError as error:
        refused = [(finding.code, finding.cause) for finding in error.findings if finding.severity == "error"]
    assert refused == ([] if path is None else [("J331", f"`{path}` of `target.extra` is in the object already")])


@pytest.mark.parametrize(("policy", "expected"), [("", "Running"), ("None", "None")])
def test_extra_changes_what_no_field_says(objects, policy, expected):
    """What the plan chose by itself."""
    words = [f"target.extra={{spec: {{runPolicy: {{cleanPodPolicy: {policy}}}}}}}"] if policy else []
    _, value = objects(JOBS["two processes"], "target.api=pytorchjob", *words)
    assert value["spec"]["runPolicy"]["cleanPodPolicy"] == expected


@pytest.mark.parametrize("api", APIS)
def test_kubernetes_finds_nothing_to_expand_in_the_command(objects, api):
    """`$(NAME)` and `$$` in a command are Kubernetes' own; there are none, whatever the job says."""
    _, value = objects(JOBS["eight GPUs on four nodes"], f"target.api={api}")
    for command in commands(value):
        assert not any(re.search(r"\$[$(]", word) for word in command)


def commands(value):
    """The command of every container."""
    if isinstance(value, dict):
        yield from (item for key, item in value.items() if key == "command")
        for item in value.values():
            yield from commands(item)
    elif isinstance(value, list):
        for item in value:
            yield from commands(item)


@pytest.mark.parametrize("api", APIS)
@pytest.mark.parametrize("name", JOBS)
def test_script_of_a_pod_is_bash(objects, api, name):
    """bash reads it whole."""
    _, value = objects(JOBS[name], f"target.api={api}")
    for command in commands(value):
        assert command[:2] == ["bash", "-c"]
        assert subprocess.run(["bash", "-n", "-c", command[2]], capture_output=True).stderr == b""


def test_values_of_secrets_are_in_no_plan(objects):
    """The object names the Secret and its key; this machine need not have the value."""
    _, value = objects(JOBS["eight GPUs on four nodes"])
    assert value["spec"]["trainer"]["env"][0] == {
        "name": "HF_TOKEN",
        "valueFrom": {"secretKeyRef": {"name": "keys", "key": "HF_TOKEN"}},
    }


TEXTS = ["", " ", "a", "no", "1", "1e3", "null", "~", "a: b", "- a", "#", "'", '"', "\\", "\n", "\n\n", "a\n", "a\nb", " a\nb\n",
         "a\n\n", "a\n\nb", "\ta", "a\tb\nc", "\x00\x1b\x7f\x85\u2028\ufeff", "日本\n\U0001f600", "{a}", "[a]", "&a", "*a", "!a", "%a", "@a",
         "`a`", "a\r\nb", "trailing \nspace ", "---", "...", "<<", "=", "0x1f", "1:30", "2001-01-01", ".inf", ".5", "-", "-a", "?"]  # fmt: skip


@pytest.mark.parametrize("text", TEXTS)
def test_yaml_says_what_it_was_given(text):
    """Any text as a key, a value, an entry of a list and below others comes back as it was."""
    value = {
        "a": text,
        "b": [text, {"c": text, "d": [text]}],
        "e": {text or "x": {}, "f": []},
        "g": [1, True, None, 0.5],
    }
    if "\x00" not in text:
        assert yaml.safe_load(document(value)) == value
        assert yaml.load(document(value), yaml.BaseLoader)["a"] == text
