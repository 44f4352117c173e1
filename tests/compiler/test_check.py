"""Settings that would have no effect beside the others of a job."""

from pathlib import Path

import pytest
from jobc.compiler.compile import compile_plan
from jobc.spec import FindingsError
from jobc.spec.resolve import resolve

TWO = "script: train.py\nhardware: {kind: cpu, per_node: 2}\nparadigm: fsdp\n"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (TWO + "training: {dataloader: {even_batches: false}}\n", "even_batches: false` lets processes end"),
        (
            "script: train.py\nhardware: cpu\ntraining: {dataloader: {prefetch: 2}}\n",
            "batches are made where they are needed",
        ),
        (TWO + "training: {compile: {backend: inductor, fullgraph: true}}\n", "refuses every break in the graph"),
        ("script: train.py\nnodes: {max_restarts: 1}\n", "the launcher `python` only starts processes"),
        (
            "script: train.py\nlauncher: python\nhardware: {kind: cpu, per_node: 2}\nnodes: {max_restarts: 1}\n",
            "the launcher `python` only starts processes",
        ),
        ("script: train.py\ntraining: {compile: {mode: max-autotune}}\n", "nothing is compiled"),
        ("script: train.py\ntraining: {compile: {backend: eager, mode: max-autotune}}\n", "`eager` has no modes"),
    ],
)
def test_setting_without_effect_is_refused(folder, text, words):
    """The finding is J311 and says why the setting could do nothing."""
    (folder / "job.yaml").write_text(text)
    spec = resolve(Path("job.yaml"), (), env={}, cwd=folder, count_gpus=lambda: 0)
    with pytest.raises(FindingsError) as raised:
        compile_plan(spec)
    assert [item.code for item in raised.value.findings] == ["J311"]
    assert words in str(raised.value)


def test_fsdp_with_one_process_is_a_hint(folder):
    """One process has nothing to cut in pieces; it trains as with `none`, and is told so."""
    (folder / "job.yaml").write_text("script: train.py\nparadigm: fsdp\n")
    spec = resolve(Path("job.yaml"), (), env={}, cwd=folder, count_gpus=lambda: 0)
    assert [item.code for item in compile_plan(spec).findings] == ["J306"]


def test_dispatch_with_one_process_is_a_hint(folder):
    """One process has nobody to send its data to, and is told so."""
    (folder / "job.yaml").write_text("script: train.py\ntraining: {dataloader: {dispatch: true}}\n")
    spec = resolve(Path("job.yaml"), (), env={}, cwd=folder, count_gpus=lambda: 0)
    assert [item.code for item in compile_plan(spec).findings] == ["J306"]


@pytest.mark.parametrize("setting", ["backend: static", "address: node1"])
def test_meeting_of_one_node_is_a_hint(folder, setting):
    """One node has nobody to meet, and is told that it need not say where."""
    (folder / "job.yaml").write_text(
        f"script: train.py\nhardware: {{kind: cpu, per_node: 2}}\nnodes: {{rendezvous: {{{setting}}}}}\n"
    )
    spec = resolve(Path("job.yaml"), (), env={}, cwd=folder, count_gpus=lambda: 0)
    assert [item.code for item in compile_plan(spec).findings] == ["J306"]


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("ACCELERATE_MIXED_PRECISION", "`precision`"),
        ("FSDP_SHARDING_STRATEGY", "`paradigm: fsdp`"),
        ("ACCELERATE_DYNAMO_MODE", "`training.compile`"),
        ("ACCELERATE_TORCH_DEVICE", "docs/reference/accelerate.md"),
    ],
)
def test_setting_of_accelerate_in_the_environment_is_a_hint(folder, name, words):
    """jobc reads none of them, and says where the document has the same."""
    (folder / "job.yaml").write_text(f"script: train.py\nenv: {{{name}: x}}\n")
    spec = resolve(Path("job.yaml"), (), env={}, cwd=folder, count_gpus=lambda: 0)
    (hint,) = compile_plan(spec).findings
    assert hint.code == "J325"
    assert words in hint.next_step


def test_folder_that_ray_may_not_take_is_told_before_it_is_sent(folder):
    """As a hint, because what is packed may be small."""
    with (folder / "data.bin").open("wb") as file:
        file.truncate(513 * 2**20)
    (folder / "job.yaml").write_text("script: train.py\nhardware: cpu\ntarget: ray\n")
    plan = compile_plan(resolve(Path("job.yaml"), (), env={}, cwd=folder, count_gpus=lambda: 0))
    (cause,) = (item.cause for item in plan.findings if item.code == "J314")
    assert cause == "513 MiB are copied to each machine, where at most 512 MiB are taken, packed"
