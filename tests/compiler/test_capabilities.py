"""The table of kinds that are planned, against what there is."""

import pytest
from jobc.compiler.targets import TARGETS
from jobc.spec import model, shape
from jobc.spec.capabilities import PLANNED, planned_kinds, refusal

CHOICES = [(block, word) for block in ("paradigm", "precision", "target") for word in
           shape.kinds(shape.job_schema()["properties"][block])]  # fmt: skip


#: Targets that make plans, and whose plans nothing carries out yet: what a job says for them.
TOLD = {
    "tpu_pod": "hardware: {kind: tpu, type: v6e-16}\ntarget: {kind: tpu_pod, zone: us-east5-b}\n",
    "sagemaker": "target: {kind: sagemaker, region: us-east-1, role: 'arn:aws:iam::123456789012:role/training', "
    "instance_type: ml.m5.xlarge, output: s3://bucket/runs}\n",
}


def tag(kind):
    return kind.__struct_config__.tag


def test_planned_kinds_are_kinds_of_the_document():
    """A name that no document can choose would refuse nothing."""
    assert {(item.block, item.kind) for item in PLANNED} <= set(CHOICES)


def test_every_other_kind_has_what_it_needs():
    """Strategies, number formats and targets: the table is what is missing in theirs, and targets that are plans."""
    from jobc.runtime import precision, strategies

    there = {
        "paradigm": {tag(kind) for kind in strategies._BUILDERS},
        "precision": {tag(kind) for kind in precision._TYPES},
        "target": {tag(kind) for kind in TARGETS},
    }
    missing = {(block, word) for block, word in CHOICES if word not in there[block]}
    assert missing == {(item.block, item.kind) for item in PLANNED} - {("target", word) for word in TOLD}
    assert set(TOLD) <= there["target"]
    assert tag(model.Fsdp) in there["paradigm"]


@pytest.mark.parametrize("item", PLANNED, ids=lambda item: item.kind)
def test_planned_kind_is_planned_and_refused_to_run(planned, item):
    """The plan is made with one hint; what a run is told names what to use."""
    said = TOLD.get(item.kind, f"hardware: {{kind: gpu, per_node: 2}}\n{item.block}: {item.kind}\n")
    plan = planned(f"script: train.py\n{said}")
    assert [found.code for found in plan.findings] == ["J320"]
    assert planned_kinds(plan.spec) == (item,)
    assert refusal(plan.spec).next_step == item.instead


def test_two_planned_kinds_are_one_refusal(planned):
    """A run says everything at once."""
    plan = planned("script: train.py\nhardware: {kind: gpu, per_node: 2}\nparadigm: megatron\nprecision: fp8\n")
    assert "`paradigm: megatron` and `precision: fp8`" in refusal(plan.spec).cause
