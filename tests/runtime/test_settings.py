"""What holds when job and code both say something."""

from pathlib import Path

import msgspec
import pytest
from jobc import Accelerator, FindingsError
from jobc.spec.resolve import resolve
from torch import nn
from torch.optim import SGD

ONE = {"hardware": {"kind": "cpu"}, "paradigm": {"kind": "none"}}


@pytest.fixture
def under(monkeypatch, job):
    """Makes this process one of a job."""

    def start(values, explicit=()):
        monkeypatch.setenv("JOBC_SPEC", str(job({**ONE, **values}, explicit)))

    return start


@pytest.fixture
def folder_of_job(tmp_path):
    """Resolves a job as `jobc run` does; the path of what a process reads."""

    def write(more):
        (tmp_path / "job.yaml").write_text(f"script: train.py\nhardware: cpu\n{more}\n")
        spec = resolve(Path("job.yaml"), (), env={}, cwd=tmp_path, count_gpus=lambda: 0)
        (tmp_path / "spec.json").write_bytes(msgspec.json.encode(spec.document()))
        return str(tmp_path / "spec.json")

    return write


@pytest.mark.parametrize(
    ("values", "path", "keywords"),
    [
        (
            {"training": {"gradient_accumulation": 4}},
            "training.gradient_accumulation",
            {"gradient_accumulation_steps": 1},
        ),
        ({"precision": {"kind": "bf16"}}, "precision.kind", {"mixed_precision": "no"}),
        (
            {"training": {"dataloader": {"even_batches": True}}},
            "training.dataloader.even_batches",
            {"even_batches": False},
        ),
        (
            {"training": {"dataloader": {"split_batches": False}}},
            "training.dataloader.split_batches",
            {"split_batches": True},
        ),
    ],
)
def test_keyword_that_contradicts_the_job_is_refused(under, values, path, keywords):
    """The finding names the setting, the keyword and both places."""
    under(values, [path])
    with pytest.raises(FindingsError) as raised:
        Accelerator(**keywords)
    (only,) = raised.value.findings
    text = only.render()
    assert only.code == "J503"
    assert f"`{path}: " in text
    assert "test_settings.py:" in text
    assert "job.yaml:7:3" in text


def test_accumulation_that_follows_from_the_job_is_the_jobs_word(monkeypatch, folder_of_job):
    """What `global_batch` makes of it is not left to the code."""
    monkeypatch.setenv("JOBC_SPEC", folder_of_job("training: {global_batch: 32, micro_batch: 4}"))
    assert Accelerator().gradient_accumulation_steps == 8
    assert Accelerator(gradient_accumulation_steps=8).gradient_accumulation_steps == 8
    with pytest.raises(FindingsError, match=r"J503.*contradicts `training.gradient_accumulation: 8`"):
        Accelerator(gradient_accumulation_steps=2)


def test_keyword_on_a_line_of_its_own_is_pointed_at(under):
    """The place in code is the keyword, not the first line of the call."""
    under({"training": {"gradient_accumulation": 4}}, ["training.gradient_accumulation"])
    with pytest.raises(FindingsError) as raised:
        Accelerator(
            mixed_precision=None,
            gradient_accumulation_steps=2,
        )
    assert "|             gradient_accumulation_steps=2," in str(raised.value)
    assert "|             ^^^^^^^^^^^^^^^^^^^^^^^^^^^" in str(raised.value)


def test_every_contradiction_is_said_at_once(under):
    """Two keywords that contradict the job are two findings of one error."""
    under({"precision": {"kind": "bf16"}, "training": {"gradient_accumulation": 4}}, ["precision", "training"])
    with pytest.raises(FindingsError) as raised:
        Accelerator(gradient_accumulation_steps=2, mixed_precision="fp16")
    assert [item.code for item in raised.value.findings] == ["J503", "J503"]


def test_cpu_contradicts_a_job_for_gpus(under):
    """`cpu=True` in a job that asks for GPUs is refused before anyone looks for a GPU."""
    under({"hardware": {"kind": "gpu"}}, ["hardware.kind"])
    with pytest.raises(FindingsError, match="J503"):
        Accelerator(cpu=True)


def test_code_decides_where_the_job_is_silent(under):
    """A default of the job gives way to a keyword; a keyword that says the same as the job is no contradiction."""
    under({"training": {"seed": 3}, "precision": {"kind": "bf16"}}, ["training.seed", "precision.kind"])
    accelerator = Accelerator(gradient_accumulation_steps=3, mixed_precision="bf16", cpu=True, even_batches=False)
    assert accelerator.gradient_accumulation_steps == 3
    assert accelerator.mixed_precision == "bf16"


def test_job_decides_where_code_is_silent(under):
    """Without keywords the job's settings hold."""
    under({"training": {"gradient_accumulation": 4}, "precision": {"kind": "fp16"}}, ["training", "precision"])
    accelerator = Accelerator()
    assert (accelerator.gradient_accumulation_steps, accelerator.mixed_precision) == (4, "fp16")


@pytest.mark.parametrize("keywords", [{"gradient_accumulation_steps": 0}, {"mixed_precision": "fp7"}])
def test_impossible_keyword_is_refused(keywords):
    """A value that no job could have is a finding."""
    with pytest.raises(FindingsError, match="J507"):
        Accelerator(**keywords)


def test_unknown_objects_are_refused_by_the_name_of_their_type():
    """Everything that cannot be prepared is named, and nothing is returned untouched."""
    with pytest.raises(FindingsError) as raised:
        Accelerator().prepare(nn.Linear(1, 1), {"a": 1}, None, range(3))
    assert [item.code for item in raised.value.findings] == ["J504"] * 3
    for name in ("`dict`", "`NoneType`", "`range`", "test_settings.py"):
        assert name in str(raised.value)


def test_seed_of_the_job_is_set(under):
    """A job with a seed starts every process with the same numbers."""
    import random

    import numpy as np
    import torch

    under({"training": {"seed": 11}})
    drawn = []
    for _ in range(2):
        Accelerator()
        drawn.append((random.random(), np.random.rand(), torch.rand(1).item()))
    assert drawn[0] == drawn[1]


def test_accelerators_one_after_another_do_not_see_each_other():
    """The second has its own settings, and prepares anew what the first prepared."""
    model = nn.Linear(1, 1)
    optimizer = SGD(model.parameters(), lr=0.1)
    first = Accelerator(gradient_accumulation_steps=2, mixed_precision="bf16")
    prepared, stepper = first.prepare(model, optimizer)
    assert first.prepare(prepared) is prepared
    assert first.prepare(stepper) is stepper
    second = Accelerator()
    assert (second.mixed_precision, second.gradient_accumulation_steps) == ("no", 1)
    again, other = second.prepare(prepared, stepper)
    assert other is not stepper
    assert other.optimizer is optimizer
    assert "forward" not in vars(again)


@pytest.mark.parametrize(("kind", "refused"), [("target", False), ("paradigm", True)])
def test_process_runs_where_a_planned_target_brought_it(under, kind, refused):
    """A plan that jobc does not carry out can be carried out by hand; what the process itself lacks is refused."""
    sagemaker = {"kind": "sagemaker", "region": "us-east-1"}
    under({"target": sagemaker} if kind == "target" else {"paradigm": {"kind": "megatron"}})
    if refused:
        with pytest.raises(FindingsError, match="J409"):
            Accelerator()
    else:
        Accelerator()
