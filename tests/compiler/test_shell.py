"""The `sh` form: a script that really runs the job, whatever the arguments hold."""

import json
import os
import subprocess

import pytest
from jobc.cli.api import load, plan
from jobc.compiler.shell import render_shell

HOSTILE = [
    "two words", "it's", 'say "hi"', "$HOME", "$$", "$(touch pwned)", "`touch pwned`", "--", "-n", "--no", "*", "a\nb",
    "\\", "é→", "<run_dir>", "", ";", "%s", "!x", "a=b", "#c",
]  # fmt: skip
SCRIPT = """
import json, os, sys
rank = os.environ.get("RANK", "0")
with open(f"seen_{rank}.json", "w") as file:
    json.dump({"argv": sys.argv[1:], "env": os.environ["HOSTILE"], "spec": json.load(open(os.environ["JOBC_SPEC"]))}, file)
print("hello from", rank)
"""


def script_of(folder, document, *overrides):
    (folder / "job.yaml").write_text(json.dumps(document))
    (folder / "train.py").write_text(SCRIPT)
    spec = load("job.yaml", overrides, env={})
    import sys

    return render_shell(plan(spec), {"project_dir": spec.project_dir, "python": sys.executable})


def bash(script, folder, **env):
    return subprocess.run(
        ["bash", "-c", script], cwd=folder, env={**os.environ, **env}, capture_output=True, text=True, timeout=120
    )


@pytest.mark.parametrize(
    ("hardware", "launcher", "ranks"),
    [
        ({"kind": "cpu"}, "auto", ["0"]),
        ({"kind": "cpu", "per_node": 2}, "python", ["0", "1"]),
        ({"kind": "cpu", "per_node": 2}, "torchrun", ["0", "1"]),
    ],
)
def test_script_runs_the_job_byte_for_byte(folder, hardware, launcher, ranks):
    """Every argument and variable arrives as it was written, in every process, and output is shown."""
    document = {
        "script": "train.py",
        "args": [*HOSTILE, r"\${python}"],  # escaped, because the document has interpolations of its own
        "env": {"HOSTILE": "$(touch pwned) 'x' \"y\"\nz"},
        "hardware": hardware,
        "launcher": launcher,
    }
    done = bash(script_of(folder, document), folder)
    assert done.returncode == 0, done.stderr
    for rank in ranks:
        seen = json.loads((folder / f"seen_{rank}.json").read_text())
        assert seen["argv"] == [*HOSTILE, "${python}"]
        assert seen["env"] == document["env"]["HOSTILE"]
        assert seen["spec"]["job"]["script"] == "train.py"
        assert f"hello from {rank}" in done.stdout
    assert not (folder / "pwned").exists()


@pytest.mark.parametrize(("per_node", "launcher", "code"), [(1, "auto", 7), (2, "python", 7), (2, "torchrun", 1)])
def test_script_fails_when_the_job_fails(folder, per_node, launcher, code):
    """The exit code is the process's own; torchrun has one code for every failure."""
    document = {"script": "train.py", "hardware": {"kind": "cpu", "per_node": per_node}, "launcher": launcher}
    script = script_of(folder, document)
    (folder / "train.py").write_text("import sys\nsys.exit(7)\n")
    assert bash(script, folder).returncode == code


def test_script_asks_for_its_secrets(folder):
    """A secret is read from the environment; its name is all that the script holds."""
    script = script_of(folder, {"script": "train.py", "env": {"HOSTILE": ""}, "secrets": ["HF_TOKEN"]})
    refused = bash(script, folder)
    assert refused.returncode != 0
    assert "HF_TOKEN is not in the environment" in refused.stderr
    assert bash(script, folder, HF_TOKEN="x").returncode == 0


def test_script_is_valid_bash(folder):
    """bash itself finds nothing to complain about."""
    script = script_of(folder, {"script": "train.py", "hardware": {"kind": "cpu", "per_node": 2}})
    assert subprocess.run(["bash", "-n"], input=script, capture_output=True, text=True).stderr == ""
