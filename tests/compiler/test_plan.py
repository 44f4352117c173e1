"""The plan as data: frozen, canonical, with a digest that depends on what is done and on nothing else."""

import json
import os
import subprocess
import sys

import msgspec
import pytest
from jobc.cli.api import load, plan
from jobc.compiler.plan import Ref, decode, encode

JOB = "script: train.py\nargs: [--lr, '0.1']\nenv: {A: x, B: y}\nhardware: {kind: cpu, per_node: 2}\n"


def test_plan_survives_its_json(planned):
    """A plan read back is the plan."""
    plan = planned(JOB)
    assert decode(encode(plan)) == plan
    assert encode(decode(encode(plan))) == encode(plan)


def test_plan_is_canonical_json(planned):
    """Keys are sorted and there is no white space, so equal plans are equal bytes."""
    raw = encode(planned(JOB))
    assert json.dumps(json.loads(raw), sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode() == raw


def test_plan_does_not_change(planned):
    """Frozen all the way down."""
    plan = planned(JOB)
    with pytest.raises(AttributeError):
        plan.name = "other"
    for block in (plan.spec, plan.nodes[0].commands[0].env, plan.inputs):
        with pytest.raises(TypeError):
            block["new"] = "value"


@pytest.mark.parametrize(
    "text",
    [
        "# a comment\nhardware: {per_node: 2, kind: cpu}\nenv: {B: y, A: x}\nargs: [--lr, '0.1']\nscript: train.py\n",
        "script: ./train.py\nargs:\n- --lr\n- 0.1\nenv: {A: x, B: y}\nhardware:\n  kind: cpu\n  per_node: 2\nversion: 1\n",
        JOB + "precision: no\nlauncher: torchrun\nparadigm: ddp\n",
    ],
)
def test_digest_is_that_of_the_meaning(planned, text):
    """Order, comments, spelling and defaults written out do not change what a plan does."""
    assert planned(text).digest == planned(JOB).digest


def test_digest_ignores_format_folder_and_file_name(planned, folder, tmp_path):
    """A plan is the same on any machine, in any folder, from YAML or TOML."""
    expected = planned(JOB).digest
    toml = 'script = "train.py"\nargs = ["--lr", "0.1"]\nenv = {A = "x", B = "y"}\nhardware = {kind = "cpu", per_node = 2}\n'
    assert planned(toml, name="other.toml").digest == expected
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "train.py").write_text("print('another script')\n")
    (elsewhere / "j.yml").write_text(JOB)
    code = "import sys, jobc; print(jobc.plan(sys.argv[1]).digest)"
    for seed in ("1", "2"):
        found = subprocess.run(
            [sys.executable, "-c", code, "j.yml"],
            cwd=elsewhere,
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        )
        assert found.stdout.strip() == expected


@pytest.mark.parametrize(
    "override", ["args=[--lr,0.2]", "env.A=z", "hardware.per_node=3", "precision=bf16", "name=other"]
)
def test_digest_changes_with_what_is_done(planned, override):
    """Any value is part of what a run does."""
    assert planned(JOB, override).digest != planned(JOB).digest


def test_script_is_hashed_beside_the_digest(planned, folder):
    """A changed script is another input of the same plan."""
    before = planned(JOB)
    (folder / "train.py").write_text("print('changed')\n")
    after = planned(JOB)
    assert before.digest == after.digest
    assert before.inputs["train.py"] != after.inputs["train.py"]


def test_plan_holds_no_origin_in_its_digest(planned):
    """The same value from another place is the same plan."""
    assert planned(JOB + "precision: bf16\n").digest == planned(JOB, "precision=bf16").digest


def test_placeholder_cannot_be_imitated(planned):
    """A user's text that looks like a placeholder stays text."""
    plan = planned("script: train.py\nargs: ['<run_dir>', '{\"ref\": \"run_dir\"}']\n")
    argv = plan.nodes[0].commands[0].argv
    assert argv[-2:] == ("<run_dir>", '{"ref": "run_dir"}')
    assert argv[0] == (Ref("python"),)


def test_every_verb_is_in_the_plan(planned):
    """How a run is followed and stopped is planned like everything else."""
    plan = planned(JOB)
    assert [step.command.argv[0] for step in (*plan.status, *plan.logs, *plan.stop)] == ["cat", "find", "kill"]


def test_unknown_step_is_refused():
    """A plan of another shape is not half understood."""
    with pytest.raises(msgspec.ValidationError):
        decode(b'{"name": "x", "spec": {}, "origins": {}, "nodes": [], "submit": [{"kind": "explode"}]}')


def test_plan_for_thousands_of_machines_is_that_for_two(folder):
    """Commands are written once for machines that do the same."""
    made = []
    for count in (2, 4096):
        (folder / "hosts").write_text("".join(f"n{number}\n" for number in range(count)))
        (folder / "job.yaml").write_text("script: train.py\ntarget: {kind: ssh, hosts_file: hosts}\n")
        made.append(plan(load("job.yaml", env={})))
    two, many = made
    assert (two.machines, many.machines, many.processes) == (2, 4096, 4096)
    assert [group.hosts for group in many.nodes] == [tuple(f"n{number}" for number in range(4096))]
    changed = [str(text).replace("4096", "2") for text in (many.nodes[0].commands, many.submit[2:])]
    assert changed == [str(two.nodes[0].commands), str(two.submit[2:])]
