"""`jobc explain`: values with their origins, fields, and findings."""

import json

import pytest

DOCUMENT = (
    "script: train.py\nprecision: fp16\nhardware: {kind: cpu, per_node: 2}\nenv: {A: x}\nargs: [--lr, 0.1]\n"
    'training:\n  seed: 3\nvars: {home: "${oc.env:PLACE}"}\n'
)


@pytest.fixture
def explain(jobc_command, folder):
    """Runs the command on the document."""
    (folder / "job.yaml").write_text(DOCUMENT)

    def run(*words):
        return jobc_command("explain", *words, env={"PLACE": "/home/me", "COLUMNS": "90"})

    return run


def table(done):
    assert done.returncode == 0, done.stderr
    rows = [line.split("\t") for line in done.stdout.splitlines()]
    assert {len(row) for row in rows} == {5}
    return {row[0]: row[1:] for row in rows}


def test_every_value_has_its_origin(explain):
    """One unwrapped line for each value: path, value, origin, what it beat, what it means."""
    rows = table(explain("job.yaml", "precision=bf16", "~env.A"))
    assert rows["script"][:3] == ["train.py", "job.yaml:1", ""]
    assert rows["precision"][:3] == ["bf16", "override 1", "was fp16 (job.yaml:2)"]
    assert rows["precision"][3] == "Number format of the forward and backward passes."
    assert rows["launcher"][:2] == ["torchrun", "derived from the number of processes"]
    assert rows["workdir"][:2] == [".", "default"]
    assert rows["vars.home"][:2] == ["/home/me", "environment PLACE"]
    assert rows["args"][:2] == ['["--lr", "0.1"]', "job.yaml:5"]
    assert rows["env.A"][:3] == ["-", "removed", "was x (job.yaml:4)"]


def test_dropped_values_are_shown(explain):
    """What belonged to another kind is not forgotten."""
    rows = table(explain("job.yaml", "hardware=gpu"))
    assert rows["hardware.per_node"][:3] == ["-", "dropped", "was 2 (job.yaml:3)"]


def test_path_restricts_to_a_block(explain):
    """A block with its values, and nothing of another whose name begins alike."""
    rows = table(explain("job.yaml", "training"))
    assert rows["training.seed"][:2] == ["3", "job.yaml:7"]
    assert all(path.startswith("training.") for path in rows)
    assert list(table(explain("job.yaml", "training.seed"))) == ["training.seed"]


def test_item_of_a_list_is_found_in_its_list(explain):
    """And a name under `env` is the user's own, so the field is explained."""
    assert list(table(explain("job.yaml", "args[1]"))) == ["args"]
    assert "Environment variables" in explain("env.ANY").stdout


def test_only_set_leaves_out_defaults(explain):
    """What somebody asked for."""
    rows = table(explain("job.yaml", "--only-set"))
    assert set(rows) == {
        "script",
        "precision",
        "hardware",
        "hardware.per_node",
        "env.A",
        "args",
        "training.seed",
        "vars.home",
    }


def test_json_holds_every_value(explain):
    """The same for programs, the full paths and the places."""
    done = explain("job.yaml", "precision=bf16", "--format", "json")
    values = {row["path"]: row for row in json.loads(done.stdout)["values"]}
    assert values["precision.kind"]["beaten"][0]["value"] == "fp16"
    assert values["precision.kind"]["origin"]["layer"] == "override"
    assert (values["training.seed"]["origin"]["line"], values["training.seed"]["set"]) == (7, True)
    assert values["workdir"]["set"] is False


def test_bad_job_is_findings(explain):
    """A job that cannot be resolved says why."""
    done = explain("job.yaml", "nodes=0")
    assert (done.returncode, done.stdout) == (2, "")
    assert "error[J106]" in done.stderr


def test_field_says_kinds_keys_and_defaults(explain):
    """Without a job, a path is a question about the document."""
    said = explain("paradigm").stdout
    assert "How the model is spread over the processes." in said
    assert "paradigm: ddp\n  DistributedDataParallel" in said
    assert "paradigm.static_graph" in said
    assert "an integer, 0 to 4294967295; default: unset" in explain("training.seed").stdout
    assert "training.scheduler.step" in explain("training").stdout


def test_nothing_to_explain_lists_the_fields(explain):
    """A person who asks for nothing in particular sees what there is."""
    lines = explain().stdout.splitlines()
    assert {"script", "hardware", "training"} <= {line.split()[0] for line in lines if line and line[0] != " "}


def test_code_shows_its_page(explain):
    """What it means, an example, what to do."""
    said = explain("J103").stdout
    assert said.startswith("error[J103]  A key is not known at its level.\n")
    assert "Example: job.yaml\n  script: train.py\n" in said
    assert "What to do\n" in said
    assert explain("j103").stdout == said
    assert json.loads(explain("J103", "--format", "json").stdout)["code"] == "J103"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("trainig",), "did you mean `training`?"),
        (("training.sed",), "did you mean `training.seed`?"),
        (("J1033",), "did you mean `J103`?"),
        (("job.yaml", "trainig"), "did you mean `training`?"),
        (("job.yaml", "paradigm.no"), "The document has no `paradigm.no`"),
        (("job.yaml", "precision.nope"), "The document has no `precision.nope`"),
        (("job.yaml", "hardware=gpu", "precision.initial_scales"), "did you mean `precision.initial_scale`?"),
        (("job.yaml", "precision=no", "precision.initial_scale"), "belongs to `precision` of the kind `fp16`"),
        (("training", "nodes"), "are two paths or codes"),
        (("a.yaml", "b.yaml"), "are two job files"),
        (("training", "nodes=2"), "no job file is named"),
    ],
)
def test_what_cannot_be_explained_exits_2(explain, words, said):
    """Misuse names the nearest thing that can be."""
    done = explain(*words)
    assert (done.returncode, done.stdout) == (2, "")
    assert said in " ".join(done.stderr.split())


def test_terminal_aligns_and_wraps(folder):
    """On a terminal the columns stand below each other, and no line is wider than it is."""
    import os
    import pty
    import re
    import subprocess
    import sys

    (folder / "job.yaml").write_text("script: train.py\ntraining: {seed: 3}\n")
    controller, terminal = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "jobc", "explain", "job.yaml", "precision=bf16"],
        env={**os.environ, "COLUMNS": "100", "TERM": "xterm"},
        stdin=subprocess.DEVNULL,
        stdout=terminal,
    )
    os.close(terminal)
    said = b""
    try:
        while chunk := os.read(controller, 65536):
            said += chunk
    except OSError:
        pass  # the terminal is closed: the process has ended
    assert process.wait(60) == 0
    os.close(controller)
    lines = said.decode().replace("\r", "").splitlines()
    bare = [re.sub(r"\x1b\[\d+m", "", line) for line in lines]
    assert max(len(line) for line in bare) <= 100
    (default,) = (line for line in lines if "workdir" in line)
    assert default.startswith("\x1b[2mworkdir")
    (set_,) = (line for line in lines if line.startswith("training.seed"))
    assert "job.yaml:2" in set_
