"""The text form: one screen, aligned, placeholders told apart from text, colours only where asked for."""

import re
from pathlib import Path

import pytest
from jobc.cli.api import load, plan
from jobc.compiler.text import render_text

GOLDEN = Path(__file__).parent / "golden"

JOBS = {
    "one_process": ("script: train.py\n", ()),
    "torchrun": (
        (
            "name: digits\nscript: train.py\nargs: [--lr, 1e-3, 'two words', '<run_dir>']\n"
            "hardware: {kind: cpu, per_node: 2}\nsecrets: [HF_TOKEN]\nenv: {DATA: '$(pwd)'}\n"
            "training: {gradient_accumulation: 2, seed: 7}\nprecision: fp16\n"
        ),
        ("precision=bf16", "training.seed=8"),
    ),
    "python_launcher": ("script: train.py\nlauncher: python\nhardware: {kind: cpu, per_node: 6}\n", ()),
    "another_kind": ("script: train.py\nhardware: {kind: cpu, per_node: 2}\nparadigm: ddp\n", ("hardware=gpu",)),
    "pinned_port": (
        "script: train.py\nhardware: {kind: cpu, per_node: 2}\nnodes: {rendezvous: {port: 4321}}\n",
        (),
    ),
}


def text_of(folder, name, **options):
    document, overrides = JOBS[name]
    (folder / "job.yaml").write_text(document)
    spec = load("job.yaml", overrides, env={})
    return render_text(plan(spec), spec, "jobc run job.yaml   runs exactly this", width=110, **options)


@pytest.mark.parametrize("name", JOBS)
def test_plan_text_is_the_committed_one(folder, golden, name):
    """A change of what a person sees is a review."""
    golden(GOLDEN / f"{name}.txt", text_of(folder, name, color=False))


@pytest.mark.parametrize("name", JOBS)
def test_colour_changes_nothing_but_colour(folder, name):
    """What is grey on a terminal is plain text elsewhere."""
    coloured = text_of(folder, name, color=True)
    assert "\x1b[2m" in coloured
    assert re.sub(r"\x1b\[\d+m", "", coloured) == text_of(folder, name, color=False)


def test_plan_of_an_ordinary_job_fits_one_screen(folder):
    """Fifty lines are what a laptop's terminal shows."""
    assert text_of(folder, "torchrun", color=False).count("\n") <= 50


def test_control_characters_do_not_reach_the_terminal(folder):
    """An argument cannot move the cursor of whoever reads the plan."""
    (folder / "job.yaml").write_text('script: train.py\nargs: ["a\\e[2Jb", "line\\nbreak"]\n')
    spec = load("job.yaml", env={})
    assert "\x1b" not in render_text(plan(spec), spec, "", color=False)
