"""Random documents that the schema allows, in every combination: each has a plan, or findings that say why it has none.

A longer search, 10,000 documents: JOBC_FUZZ=10000 make test ARGS=compiler/test_fuzz.py
"""

import json
import os
import random
from collections import Counter
from pathlib import Path

import pytest
from jobc.compiler.compile import compile_plan
from jobc.compiler.plan import CallApi, decode, encode
from jobc.compiler.shell import render_shell
from jobc.compiler.text import render_text
from jobc.spec import FindingsError, shape
from jobc.spec.codes import CODES
from jobc.spec.resolve import resolve
from jsonschema import Draft202012Validator

COUNT = int(os.environ.get("JOBC_FUZZ", "400"))
BATCHES = 8
PLAN = Path(__file__).parents[2] / "schemas" / "plan.schema.json"
#: Faults of form, which documents that follow the schema do not have.
FORM = {"J101", "J102", "J103", "J104", "J105", "J108", "J109", "J110", "J113"}
#: Texts of any kind, for leaves that take any.
TEXTS = [
    "a",
    "two words",
    "$HOME",
    "'quoted'",
    '"double"',
    "--flag=1",
    "é",
    "1e-4",
    "no",
    "a;b|c",
    "x\ny",
    "%s",
    "\\${x}",
]
#: Texts that leaves of a form of their own take, by name, or by the kind that they belong to and name.
WORDS = {
    "script": ["train.py", "other.py", "missing.py"],
    "module": ["pkg.train", "train"],
    "workdir": [".", "below", "missing", "/tmp"],
    "name": ["a", "job-1.x", "A_b"],
    "hosts": ["one", "me@two", "10.0.0.3", "four"],
    "hosts_file": ["hosts", "missing"],
    "folder": [".jobc", "some/where", "checkpoints"],
    "wrap": ["Block", "Linear"],
    "moe_layers": ["Experts"],
    "secrets": ["TOKEN", "KEY"],
    "address": ["one", "10.0.0.3"],
    "conf": {"keys": ["join_timeout", "is_host"], "values": ["60", "1"]},
    "env": {"keys": ["A", "OMP_NUM_THREADS", "RANK", "TOKEN", "CUDA_VISIBLE_DEVICES"], "values": TEXTS},
    "vars": {"keys": ["x", "y z"], "values": TEXTS},
    "tensor_parallel_plan": {"keys": ["*.q", "layers.*.up"], "values": ["colwise", "rowwise", "replicate"]},
    "cpu_affinity": ["0", "0-3", "4,6-7", "3-0"],
    "ignored": ["encoder", "*.norm"],
    "type": ["v6e-8", "v6e-16", "v3-8", "tpu7x-8", "v5p-16"],
    "zone": ["us-east5-b", "us-central2-b"],
    "project": ["my-project"],
    "valid_until": ["6h", "90m"],
    "image": ["debian-cloud/debian-12"],
    "user": ["root"],
    "labels": {"keys": ["team", "cost-1"], "values": ["one", ""]},
    "role": ["trainer", "arn:aws:iam::123456789012:role/training"],
    "region": ["us-east-1", "cn-north-1", "us-east-9"],
    "instance_type": ["ml.m5.xlarge", "ml.p5.48xlarge", "ml.g5.12xlarge", "ml.new.large"],
    "output": ["s3://bucket", "s3://bucket/a/b"],
    "checkpoint_s3": ["s3://bucket/kept"],
    "sagemaker.image": ["image:1"],
    "channels": {"keys": ["train", "code", "a.b"], "values": ["s3://bucket/data"]},
    "subnets": ["subnet-1"],
    "security_groups": ["sg-1"],
    "kms_key": ["alias/key"],
    "volume_kms_key": ["alias/key"],
    "sagemaker.tags": {"keys": ["team", "é"], "values": ["", "one"]},
    "metrics": {"keys": ["loss", "train:loss"], "values": ["loss=(.*)", "loss"]},
    "sagemaker.extra": {
        "keys": ["RoleArn", "ExperimentConfig", "Tags", "no"],
        "values": [{"ExperimentName": "a"}, [], 3, "a"],
    },
    "prefix": ["{rank}: ", "", "é "],
    "memory": ["512MiB", "8GiB"],
    "backend": ["inductor", "eager", "none"],
    "function": ["main"],
    "config_argument": ["--deepspeed_config"],
    "config_file": ["ds.json"],
    "hostfile": ["slots"],
    "deepspeed.include": ["one", "one:0@two:1"],
    "deepspeed.exclude": ["two", "one:0"],
    "resources": {"keys": ["accelerator_type:H100"], "values": [1, 0.5]},
    "ray.runtime_env": {"keys": ["pip", "conda"], "values": [["numpy"], "base"]},
    "kubernetes.image": ["registry/train:1"],
    "kubernetes.folder": ["/workspace"],
    "kubernetes.memory": ["64Gi"],
    "kubernetes.runtime": ["torch-distributed"],
    "kubernetes.namespace": ["team"],
    "kubernetes.volumes": {
        "keys": ["/data", "/dev/shm", "/workspace/checkpoints"],
        "values": ["claim:a:ro", "host:/mnt", "scratch"],
    },
    "kubernetes.shared_memory": ["16Gi"],
    "kubernetes.gpu_resource": ["example.com/gpu"],
    "kubernetes.node_selector": {"keys": ["pool", "cloud.google.com/gke-tpu-topology"], "values": ["training", "2x2"]},
    "kubernetes.tolerations": ["nvidia.com/gpu", "pool=training:NoSchedule"],
    "kubernetes.service_account": ["trainer"],
    "kubernetes.secret": ["keys"],
    "kubernetes.image_pull_secrets": ["registry"],
    "kubernetes.extra": {"keys": ["metadata", "other"], "values": [{"labels": {"a": "b"}}, [1, "x"], None]},
}

#: What a kind is told in most documents, because there is no plan without it.
NEEDED = {"sagemaker": {name: WORDS[name][-1] for name in ("role", "region", "instance_type", "output")}}
NEEDED["sagemaker"] |= {"region": "us-east-1"}


class Documents:
    """Makes documents from the schema; each setting is written or left to its default by chance."""

    def __init__(self, seed):
        self.random = random.Random(seed)
        self.kind = ""

    def document(self):
        keys = dict(shape.job_schema()["properties"])
        for key in ("defaults", "version"):
            keys.pop(key)
        runs = self.random.choice(["script", "script", "script", "module", "command"])
        for key in {"script", "module", "command"} - {runs}:
            keys.pop(key)
        found = self.block(keys, chance=0.3)
        found.setdefault(runs, self.leaf(runs, keys[runs]))
        return found

    def block(self, keys, chance):
        return {
            key: self.value(key, schema)
            for key, schema in keys.items()
            if key != "kind" and self.random.random() < chance
        }

    def value(self, key, schema):
        if not shape.is_block(schema):
            return self.leaf(key, schema)
        choices = shape.kinds(schema)
        if choices:
            word = self.random.choice(list(choices))
            if self.random.random() < 0.3:
                return word
            self.kind = word
            found = {"kind": word, **NEEDED.get(word, {}), **self.block(choices[word]["properties"], chance=0.3)}
            self.kind = ""
            return found
        return self.block(shape.properties(schema), chance=0.3)

    def leaf(self, key, schema):
        leaf = shape.leaf(schema)
        if "then" in leaf:  # a word, or something else
            if self.random.random() < 0.5:
                return self.of_type(key, leaf["then"])
            leaf = leaf["else"]
        return self.of_type(key, leaf)

    def of_type(self, key, leaf):
        pick = self.random.choice
        if "enum" in leaf:
            return pick([word for word in leaf["enum"] if word is not None])
        kinds = leaf["type"] if isinstance(leaf["type"], list) else [leaf["type"]]
        if "object" in kinds:
            pools = self.words(key)
            return {pick(pools["keys"]): pick(pools["values"]) for _ in range(self.random.randint(0, 2))}
        if "array" in kinds:
            least = leaf.get("minItems", 0)
            return [self.leaf(key, leaf["items"]) for _ in range(self.random.randint(least, max(least, 3)))]
        if "string" in kinds:
            return pick(self.words(key))
        if "boolean" in kinds:
            return pick([True, False])
        return self.number(leaf, whole="integer" in kinds)

    def words(self, key):
        return WORDS.get(f"{self.kind}.{key}", WORDS.get(key, TEXTS))

    def number(self, leaf, *, whole):
        low = leaf.get("minimum", leaf.get("exclusiveMinimum", 0) + (1 if whole else 0.125))
        high = min(leaf.get("maximum", leaf.get("exclusiveMaximum", 1e9)), low + self.random.choice([1, 3, 7, 1000]))
        if "exclusiveMaximum" in leaf:
            high = leaf["exclusiveMaximum"] - 0.125
        return self.random.randint(int(low), int(high)) if whole else self.random.uniform(low, high)


@pytest.fixture
def project(folder):
    """A folder with some of what documents name."""
    (folder / "other.py").write_text("")
    (folder / "below").mkdir()
    (folder / "hosts").write_text("one\nme@two\n")
    (folder / "slots").write_text("one slots=2\ntwo slots=2\n")
    (folder / "ds.json").write_text("{}")
    return folder


def made(project, text):
    """The spec and the plan of a document, and the codes of its errors where it has none."""
    (project / "job.yaml").write_text(text, encoding="utf-8")
    try:
        spec = resolve(Path("job.yaml"), (), env={}, cwd=project, count_gpus=lambda: 2)
        return spec, compile_plan(spec), set()
    except FindingsError as error:
        return None, None, {finding.code for finding in error.findings}


@pytest.fixture(scope="module")
def schema():
    return Draft202012Validator(json.loads(PLAN.read_text()))


@pytest.mark.parametrize("batch", range(BATCHES))
def test_document_that_the_schema_allows_is_planned_or_refused(project, schema, batch):
    """A plan that follows its schema and can be shown, or findings of known codes; never anything else."""
    seen = Counter()
    documents = Documents(batch)
    for number in range(COUNT // BATCHES):
        text = json.dumps(documents.document(), ensure_ascii=False, indent=1)  # which is YAML
        where = f"document {number} of batch {batch}:\n{text}"
        spec, plan, codes = made(project, text)
        assert codes <= set(CODES) - FORM, where
        seen.update(codes if plan is None else ["planned"])
        if plan is None:
            continue
        raw = encode(plan)
        assert not list(schema.iter_errors(json.loads(raw))), where
        assert decode(raw).digest == plan.digest
        assert plan.digest[:8] in render_text(plan, spec, "again", color=False, width=100)
        if any(isinstance(step, CallApi) for step in plan.submit):
            continue
        if all(command.host is None for node in plan.nodes for command in node.commands):
            assert render_shell(plan, {"project_dir": spec.project_dir, "python": "python3"}).startswith("#!"), where
    assert seen["planned"] > COUNT // BATCHES // 20, seen
    assert len(seen) > 5, seen
