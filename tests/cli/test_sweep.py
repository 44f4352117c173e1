"""`jobc plan -m` and `--config-dir` as a person meets them."""

import json

import pytest
from jobc.compiler.plan import LaunchPlan, decode


@pytest.fixture(autouse=True)
def job(folder):
    (folder / "job.yaml").write_text("script: train.py\nhardware: {kind: cpu, per_node: 2}\n")


def test_sweep_shows_a_row_for_each_plan(jobc_command):
    """What differs stands in a table, what is the same once."""
    words = ("precision=bf16,fp16", "training.seed=1,2", "name=digits")
    done = jobc_command("plan", "job.yaml", "-m", *words, env={"COLUMNS": "100"})
    assert done.returncode == 0
    lines = done.stdout.splitlines()
    assert lines[1] == "  digits   4 plans"
    assert lines[3].split() == ["plan", "precision", "training.seed", "digest", "nodes", "x", "processes"]
    rows = [line.split() for line in lines[4:8]]
    assert [row[:3] for row in rows] == [["1", "bf16", "1"], ["2", "bf16", "2"], ["3", "fp16", "1"], ["4", "fp16", "2"]]
    assert len({row[3] for row in rows}) == 4
    assert done.stdout.count("script ") == 1
    assert "  differ     precision, training.seed, precision.initial_scale, precision.growth_interval" in done.stdout
    assert "jobc plan job.yaml precision=bf16 training.seed=1 name=digits" in lines[-2]


def test_sweep_as_json_lists_its_plans(jobc_command):
    """Each with its overrides, and the same plan as alone; on this machine none are submitted together."""
    done = jobc_command("plan", "job.yaml", "-m", "precision=bf16,fp16", "--format", "json")
    listed, arrays = json.loads(done.stdout)["plans"], json.loads(done.stdout)["arrays"]
    assert arrays == []
    assert [entry["overrides"] for entry in listed] == [["precision=bf16"], ["precision=fp16"]]
    alone = jobc_command("plan", "job.yaml", "precision=fp16", "--format", "json")
    plan = decode(json.dumps(listed[1]["plan"]).encode())
    assert isinstance(plan, LaunchPlan)
    assert plan.digest == decode(alone.stdout.encode()).digest


def test_sweep_shows_what_a_scheduler_takes_together(jobc_command):
    """Runs of a Slurm that ask for the same; the script, and how many go on at a time."""
    words = ("plan", "-m", "job.yaml", "target=slurm", "training.seed=1,2", "nodes=1,2", "target.memory=1GiB,2GiB")
    done = jobc_command(*words, "--jobs", "3")
    assert done.stdout.count("#SBATCH --array=0-1%3") == 4
    assert "  together   plans 1, 5 as one array" in done.stdout
    said = json.loads(jobc_command(*words, "--format", "json").stdout)["arrays"]
    assert [array["plans"] for array in said] == [[0, 4], [1, 5], [2, 6], [3, 7]]
    assert [step["kind"] for step in said[0]["submit"]] == ["write", "run"]


def test_sweep_of_many_shows_its_script_in_short(jobc_command):
    """Whoever wants all of it takes the JSON."""
    done = jobc_command("plan", "-m", "job.yaml", "target=slurm", "training.seed=range(0,100)")
    assert "  together   plans 1 to 100 as one array" in done.stdout
    assert "... 73 lines" in done.stdout


@pytest.mark.parametrize("command", ["plan", "run"])
def test_jobs_without_a_sweep_is_refused(jobc_command, command):
    """One run has no others beside it."""
    done = jobc_command(command, "job.yaml", "--jobs", "2")
    assert done.returncode == 2
    assert "`--jobs` belongs to `-m`" in done.stderr


def test_sweep_as_script_is_refused(jobc_command):
    """A script runs one job."""
    done = jobc_command("plan", "job.yaml", "-m", "precision=bf16,fp16", "--format", "sh")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error[J207]: a script runs one job")


def test_bad_plans_are_named_by_their_overrides(jobc_command):
    """A finding of all plans stands alone, one of some with their overrides; exit code 2."""
    done = jobc_command("plan", "job.yaml", "-m", "precision=bf16,bf61", "paradigm=ddp,none", "nme=x")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.count("error[J103]") == 1
    assert "  precision=bf61 paradigm=ddp nme=x\n  precision=bf61 paradigm=none nme=x\nerror[J105]" in done.stderr
    assert done.stderr.endswith("4 of 4 plans have errors\n")


def test_several_values_without_m_say_how(jobc_command):
    """The next step is the option."""
    done = jobc_command("plan", "job.yaml", "precision=bf16,fp16")
    assert done.returncode == 2
    assert "`jobc plan -m`" in done.stderr


@pytest.mark.parametrize("command", ["plan", "run"])
def test_config_dir_adds_group_files(jobc_command, folder, command):
    """Given several times, before or after the overrides."""
    for name, count in (("one", 1), ("two", 3)):
        (folder / name / "hardware").mkdir(parents=True)
        (folder / name / "hardware" / f"{name}.yaml").write_text(f"kind: cpu\nper_node: {count}\n")
    done = jobc_command(command, "--config-dir", "two", "job.yaml", "hardware=one", "--config-dir", "one")
    assert done.returncode == 0, done.stderr
    if command == "plan":
        assert "one/hardware/one.yaml:2" in done.stdout
        assert "jobc run job.yaml hardware=one --config-dir two --config-dir one" in done.stdout
