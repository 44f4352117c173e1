"""Plans as files: what was read is what runs, or nothing does."""

import json
import shutil

import pytest
from jobc.compiler.plan import digest
from jobc.compiler.saved import from_file

JOB = "script: train.py\nargs: [a]\nenv: {A: b}\n"


@pytest.fixture
def saved(jobc_command, folder):
    """A plan saved beside its job, whose script says what it gets."""
    (folder / "train.py").write_text("import os, sys; print(sys.argv[1:], os.environ['A'], os.getcwd())\n")
    (folder / "job.yaml").write_text(JOB)
    done = jobc_command("plan", "job.yaml", "precision=bf16", "-o", "plan.json")
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("jobc run plan.json   runs exactly this\n\n")
    return folder / "plan.json"


def test_saved_plan_runs_without_its_job(jobc_command, folder, saved):
    """The document is not read again."""
    (folder / "job.yaml").unlink()
    done = jobc_command("run", "plan.json")
    assert (done.returncode, done.stdout) == (0, f"['a'] b {folder}\n")


def test_saved_plan_moves_with_its_folder(jobc_command, folder, saved):
    """The way to the job's folder is kept from the file's place."""
    (folder / "plans").mkdir()
    assert jobc_command("plan", "job.yaml", "-o", "plans/a.json").returncode == 0
    moved = folder.parent / f"{folder.name}-moved"
    shutil.copytree(folder, moved)
    done = jobc_command("run", str(moved / "plans" / "a.json"))
    assert (done.returncode, done.stdout) == (0, f"['a'] b {moved}\n")


def test_saved_plan_has_the_digest_of_the_printed_one(jobc_command, saved):
    """A file is another form of the same plan."""
    printed = json.loads(jobc_command("plan", "job.yaml", "precision=bf16", "--format", "json").stdout)
    kept = json.loads(saved.read_text())
    assert kept["digest"] == printed["digest"] == digest(from_file(saved.read_bytes(), "plan.json"))


def test_saved_plan_can_be_looked_at(jobc_command, saved):
    """As text and as a script."""
    shown = jobc_command("plan", "plan.json").stdout
    assert "precision  bf16" in shown
    assert shown.endswith("jobc run plan.json   runs exactly this\n\n")
    assert "train.py" in jobc_command("plan", "plan.json", "--format", "sh").stdout


def test_changed_script_is_refused(jobc_command, folder, saved):
    """What would run is not what was read."""
    (folder / "train.py").write_text("print('other')\n")
    done = jobc_command("run", "plan.json")
    assert (done.returncode, done.stdout) == (2, "")
    assert "error[J406]: `train.py` has changed" in done.stderr
    assert "--stale-ok" in done.stderr
    done = jobc_command("run", "plan.json", "--stale-ok")
    assert (done.returncode, done.stdout) == (0, "other\n")
    (folder / "train.py").unlink()
    assert "`train.py` is no longer there" in jobc_command("run", "plan.json").stderr


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda text: text.replace('"b"', '"c"'), "it was changed after it was written"),
        (lambda text: text.replace('"format": 1', '"format": 2'), "it has format 2, and this jobc reads format 1"),
        (lambda text: text[:-40], "truncated"),
        (lambda _: "{}", "missing required field"),
        (lambda _: "[1]", "Expected `object`"),
        (lambda _: "\udcff", "not a valid"),
    ],
)
def test_file_that_is_no_plan_is_refused(jobc_command, saved, change, said):
    """Changed by hand, of another version, cut off, or something else."""
    saved.write_bytes(change(saved.read_text()).encode(errors="surrogateescape"))
    for command in ("run", "plan"):
        done = jobc_command(command, "plan.json")
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr.startswith("error[J405]: this is no plan that can be run")
        assert said in done.stderr or said == "not a valid"


def test_saved_plan_takes_no_overrides(jobc_command, saved):
    """Another value is another plan."""
    done = jobc_command("run", "plan.json", "precision=no")
    assert (done.returncode, done.stdout) == (2, "")
    assert "error[J202]: `precision=no` would change a plan that is made already" in done.stderr


@pytest.mark.parametrize(
    ("name", "said"),
    [("plan.txt", "a saved plan is JSON"), ("nowhere/plan.json", "No such file or directory")],
)
def test_plan_that_cannot_be_written_is_a_finding(jobc_command, folder, saved, name, said):
    """A name that `jobc run` would not know, a folder that is not there."""
    done = jobc_command("plan", "job.yaml", "-o", name)
    assert (done.returncode, done.stdout) == (2, "")
    assert said in done.stderr
    assert not (folder / name).exists()


def test_missing_plan_is_a_finding(jobc_command):
    """A slip of the finger."""
    done = jobc_command("run", "nope.json")
    assert (done.returncode, done.stdout) == (2, "")
    assert "No such file or directory" in done.stderr


def test_sweep_is_not_saved(jobc_command, saved):
    """One file holds one plan."""
    done = jobc_command("plan", "-m", "job.yaml", "precision=bf16,no", "-o", "all.json")
    assert done.returncode == 2
    assert "`-o` saves one plan" in done.stderr
