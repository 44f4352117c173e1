"""What every example does on every target with every launcher, as committed records."""

import shutil
from pathlib import Path

import pytest
from jobc.cli.api import load, plan
from jobc.compiler.diff import verbs
from jobc.compiler.launchers import LAUNCHERS
from jobc.compiler.targets import TARGETS
from jobc.compiler.text import Paint, body
from jobc.spec import FindingsError

EXAMPLES = Path(__file__).parents[2] / "examples"
GOLDEN = Path(__file__).parent / "golden"
SAGEMAKER = (
    "target.region=us-east-1",
    "target.role=arn:aws:iam::123456789012:role/training",
    "target.instance_type=ml.m5.2xlarge",
    "target.output=s3://bucket/runs",
    "target.checkpoint_s3=s3://bucket/kept",
)
#: What a target needs to be told.
TOLD = {
    "local": (),
    "inherit": (),
    "ssh": ("target.hosts=[n1,n2]",),
    "slurm": ("nodes=2",),
    "ray": ("nodes=2",),
    "tpu_pod": ("target.zone=us-west4-a", "hardware={kind: tpu, type: v5litepod-16}"),
    "sagemaker": SAGEMAKER,
    "kubernetes": ("target.image=registry/train:1",),
}
PAIRS = {
    (str(kind.__struct_config__.tag), launcher): launcher in target.LAUNCHERS
    for kind, target in TARGETS.items()
    for launcher in LAUNCHERS
}


def test_every_target_is_recorded():
    """A target without records is a target that nobody reviews."""
    assert set(TOLD) == {kind.__struct_config__.tag for kind in TARGETS}


@pytest.mark.parametrize("example", sorted(path.parent.name for path in EXAMPLES.glob("*/job.yaml")))
@pytest.mark.parametrize(("target", "launcher"), sorted(pair for pair, works in PAIRS.items() if works))
def test_plan_is_the_committed_one(tmp_path, monkeypatch, golden, example, target, launcher):
    """Steps, commands, files, variables and the verbs of a run's life; the document stands in the example."""
    folder = tmp_path / example
    shutil.copytree(EXAMPLES / example, folder, ignore=shutil.ignore_patterns("out", "__pycache__", "checkpoints"))
    monkeypatch.chdir(folder)
    words = (f"target={target}", f"launcher={launcher}", *TOLD[target])
    if launcher == "xla" and target != "tpu_pod":
        words += ("hardware={kind: tpu, type: %s}" % ("v4-16" if target in ("ssh", "kubernetes") else "v5litepod-8"),)
    if launcher != "torchrun":
        words += ("nodes.max_restarts=0",)  # only torchrun starts processes again
    if (target, launcher) == ("kubernetes", "python"):
        words += ("hardware.per_node=1",)  # it starts one process in a pod
    spec = load("job.yaml", words, env={})
    made = plan(spec)
    blocks = body(made, spec, Paint(color=False), 110)[1:]
    lines = [line for block in blocks for line in (*block, "")]
    lines += [f"  {name:<8} {line}" for name, steps in verbs(made).items() if name != "submit" for line in steps]
    golden(GOLDEN / f"{example}-{target}-{launcher}.txt", "\n".join(lines) + "\n")


@pytest.mark.parametrize(("target", "launcher"), sorted(pair for pair, works in PAIRS.items() if not works))
def test_other_pairs_are_refused_with_what_to_use(tmp_path, monkeypatch, target, launcher):
    """A target that cannot start processes with a launcher says so, and with which it can."""
    shutil.copytree(EXAMPLES / "digits", tmp_path / "digits")
    monkeypatch.chdir(tmp_path / "digits")
    with pytest.raises(FindingsError) as caught:
        plan(load("job.yaml", (f"target={target}", f"launcher={launcher}", *TOLD[target]), env={}))
    said = next(item for item in caught.value.findings if item.code == "J311")
    assert f"`target: {target}` cannot start processes with `launcher: {launcher}`" in said.cause
    assert any(f"`launcher: {word}`" in said.next_step for word in LAUNCHERS if PAIRS[target, word])
