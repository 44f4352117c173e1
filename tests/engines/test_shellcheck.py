"""Every script that a plan renders is good bash, in the judgement of bash and of shellcheck."""

import shutil
import subprocess

import pytest
from jobc.cli.api import load, plan
from jobc.compiler.plan import Ref, WriteFile
from jobc.compiler.shell import render_shell

HOSTILE = "args: ['two words', \"it's\", '$HOME', '$(id)', '--', 'a\\nb', é]\nenv: {A: '`id` $x'}\nsecrets: [TOKEN]\n"
LOCAL = {
    "one process": "script: train.py\n",
    "python": "script: train.py\nhardware: {kind: cpu, per_node: 3}\nlauncher: python\n",
    "torchrun": "script: train.py\nhardware: {kind: cpu, per_node: 2}\nsetup: [export A=1, module load x]\n",
    "a command": "command: [./go, a b]\nhardware: {kind: cpu, per_node: 2}\nnodes: {rendezvous: {port: 29511}}\n",
}
SAGEMAKER = (
    "target: {kind: sagemaker, region: us-east-1, role: 'arn:aws:iam::123456789012:role/training', "
    "instance_type: ml.m5.xlarge, output: s3://bucket, checkpoint_s3: s3://bucket/kept}\n"
)
MACHINES = "target: {kind: ssh, hosts: [n1, me@n2], jump: gate, port: 2222}\n"


@pytest.fixture
def checked(folder):
    """Judges the text of a script."""
    if shutil.which("shellcheck") is None:
        pytest.skip("shellcheck is not installed: make engines")

    def judge(text, *excluded):
        (folder / "script.sh").write_text(text)
        options = ["--shell=bash", "--severity=warning", *(f"--exclude={code}" for code in excluded)]
        for command in (["bash", "-n"], ["shellcheck", *options]):
            done = subprocess.run([*command, "script.sh"], cwd=folder, capture_output=True, text=True)
            assert (done.returncode, done.stdout + done.stderr) == (0, "")

    return judge


def planned(folder, text):
    (folder / "job.yaml").write_text(text)
    spec = load("job.yaml", env={})
    return plan(spec), spec


@pytest.mark.parametrize("name", LOCAL)
def test_sh_form_is_good_bash(checked, folder, name):
    """Also with words that mean something to a shell."""
    made, spec = planned(folder, LOCAL[name] + (HOSTILE if "command" not in LOCAL[name] else ""))
    checked(render_shell(made, {"project_dir": spec.project_dir, "python": "python3"}))


@pytest.mark.parametrize("name", LOCAL)
def test_sh_form_for_machines_is_good_bash(checked, folder, name):
    """It holds the scripts of the machines, quoted once more."""
    made, spec = planned(folder, LOCAL[name] + MACHINES + (HOSTILE if "command" not in LOCAL[name] else ""))
    checked(render_shell(made, {"project_dir": spec.project_dir, "python": "python3"}))


@pytest.mark.parametrize("name", LOCAL)
def test_script_of_a_node_is_good_bash(checked, folder, name):
    """What goes over ssh, its placeholders filled in with a quoted word."""
    text = LOCAL[name] + MACHINES + (HOSTILE if "command" not in LOCAL[name] else "")
    made, _ = planned(folder, text)
    for group in made.nodes:
        for command in group.commands:
            parts = command.stdin if isinstance(command.stdin, tuple) else (command.stdin,)
            checked("".join("'a value'" if isinstance(part, Ref) else part for part in parts))


@pytest.mark.parametrize("name", LOCAL)
def test_scripts_for_ray_are_good_bash(checked, folder, name):
    """Those of the nodes, which are told there who they are, and the sh form that submits them."""
    text = LOCAL[name] + "target: ray\n" + (HOSTILE if "command" not in LOCAL[name] else "")
    made, spec = planned(folder, text if "hardware" in text else f"{text}hardware: cpu\n")
    unused, quoted = "SC2034", "SC1078"  # not every job needs all that is known; the script of a node is quoted whole
    checked(render_shell(made, {"project_dir": spec.project_dir, "python": "python3"}), unused, quoted)
    for step in made.submit:
        if isinstance(step, WriteFile) and isinstance(step.path[-1], str) and step.path[-1].endswith(".sh"):
            parts = step.content if isinstance(step.content, tuple) else (step.content,)
            checked("".join("'a value'" if isinstance(part, Ref) else part for part in parts), unused)


@pytest.mark.parametrize("words", [(), ("hardware.type=v4-8",), ("target.way=compute_engine", "hardware.type=v6e-16")])
def test_scripts_of_a_slice_are_good_bash(checked, folder, words):
    """Those of its machines, and those that reach them."""
    said = "target: {kind: tpu_pod, zone: us-east5-b, project: my-project}\nhardware: {kind: tpu, type: v4-16}\n"
    (folder / "job.yaml").write_text("script: train.py\n" + HOSTILE + said)
    made = plan(load("job.yaml", words, env={}))
    scripts = [step.content for step in made.submit if hasattr(step, "content")]
    assert len(scripts) >= 4
    for content in scripts[1:]:
        parts = (content,) if isinstance(content, str) else content
        checked("#!/bin/bash\n" + "".join("word" if isinstance(part, Ref) else part for part in parts))


@pytest.mark.parametrize("name", LOCAL)
@pytest.mark.parametrize("nodes", [1, 2])
def test_script_of_a_container_of_sagemaker_is_good_bash(checked, folder, name, nodes):
    """What SageMaker starts on each node."""
    words = [] if "nodes:" in LOCAL[name] else [f"nodes={nodes}"]
    (folder / "job.yaml").write_text(LOCAL[name] + SAGEMAKER + (HOSTILE if "command" not in LOCAL[name] else ""))
    made = plan(load("job.yaml", words, env={}))
    checked(next(step.content for step in made.submit if isinstance(step, WriteFile) and isinstance(step.content, str)))


@pytest.mark.parametrize("name", LOCAL)
@pytest.mark.parametrize("nodes", [1, 2])
def test_scripts_for_slurm_are_good_bash(checked, folder, name, nodes):
    """The batch script, those of its tasks, and what asks for the job and ends it."""
    text = LOCAL[name] + HOSTILE * ("command" not in LOCAL[name])
    text = text.replace("nodes: {", f"nodes: {{count: {nodes}, ") + f"nodes: {nodes}\n" * ("nodes:" not in text)
    made, _ = planned(folder, text + "target: {kind: slurm, requeue: true, container_image: a.sif}\n")
    for step in made.submit[1:]:
        if isinstance(step, WriteFile):
            parts = step.content if isinstance(step.content, tuple) else (step.content,)
            checked("".join("'a value'" if isinstance(part, Ref) else part for part in parts))
