"""`jobc diff`: what two jobs, plans or runs do differently, with both origins."""

import json

import pytest

JOB = "script: train.py\nhardware: {kind: cpu, per_node: 2}\nenv: {A: b}\n"


@pytest.fixture
def job(folder):
    (folder / "job.yaml").write_text(JOB)
    return folder


def lines(done):
    assert done.returncode in (0, 1), done.stderr
    return [" ".join(line.split()) for line in done.stdout.splitlines() if line.strip()]


def test_override_shows_what_it_changes(jobc_command, job):
    """One job with overrides is compared with itself without them."""
    found = lines(jobc_command("diff", "job.yaml", "precision=bf16", "hardware.per_node=3", "env.A=c"))
    assert "- precision no default" in found
    assert "+ bf16 override 1" in found
    assert "- hardware.per_node 2 job.yaml:2" in found
    assert "+ 3 override 2" in found
    assert [line[:21] for line in found if "--nproc" in line] == ["- <python> -m torch.d", "+ <python> -m torch.d"]
    assert found[-3:] == ["adds node 0", "- A=b", "+ A=c"]


def test_same_jobs_are_the_same(jobc_command, job):
    """Other words for the same values: nothing is different, and the exit code says so."""
    (job / "other.yaml").write_text(
        "script: train.py\nname: train\nenv:\n  A: b\nhardware:\n  kind: cpu\n  per_node: 2\n"
    )
    done = jobc_command("diff", "job.yaml", "other.yaml", "--exit-code")
    assert done.returncode == 0
    assert lines(done)[-1] == "both do the same"


def test_exit_code_says_whether_there_is_a_difference(jobc_command, job):
    """As git's: 0 and 1, and 2 for what cannot be compared; without the option only errors are told so."""
    assert jobc_command("diff", "job.yaml", "precision=bf16").returncode == 0
    assert jobc_command("diff", "--exit-code", "job.yaml", "precision=bf16").returncode == 1
    assert jobc_command("diff", "job.yaml", "nope.yaml").returncode == 2
    assert jobc_command("diff", "job.yaml", "precision=bf61").returncode == 2


def test_saved_plan_is_compared_with_the_job_of_today(jobc_command, job):
    """The script's hash is part of it."""
    assert jobc_command("plan", "job.yaml", "-o", "plan.json").returncode == 0
    assert lines(jobc_command("diff", "plan.json", "job.yaml"))[-1] == "both do the same"
    (job / "train.py").write_text("print('other')\n")
    found = lines(jobc_command("diff", "plan.json", "job.yaml"))
    assert found[2] == "inputs train.py"
    assert [line.split(":")[0] for line in found[3:]] == ["- sha256", "+ sha256"]


def test_run_is_compared_by_its_id(jobc_command, job):
    """A run carries its plan: by its id, the beginning of it, or as the last one."""
    assert jobc_command("run", "job.yaml", "launcher=python").returncode == 0
    (run,) = (job.parent / "state" / "jobc" / "runs").iterdir()
    for word in (run.name, run.name[:-2], "last"):
        assert lines(jobc_command("diff", word, "job.yaml", "launcher=python"))[-1] == "both do the same"
    assert "+ torchrun derived from the number of processes" in lines(jobc_command("diff", "last", "job.yaml"))


def test_unknown_run_is_a_finding(jobc_command, job):
    """The nearest name, or where to look."""
    done = jobc_command("diff", "trian", "job.yaml")
    assert (done.returncode, done.stdout) == (2, "")
    assert "error[J407]: there is no run `trian`" in done.stderr
    assert "jobc ps" in done.stderr


def test_json_has_every_part(jobc_command, job):
    """For programs: values with origins, then text that differs."""
    done = jobc_command("diff", "job.yaml", "env.B=x", "--format", "json")
    found = json.loads(done.stdout)
    assert (found["format"], found["same"]) == (1, False)
    assert found["before"]["digest"] != found["after"]["digest"]
    assert found["fields"] == [
        {"path": "env.B", "before": None, "after": "x", "origin_before": None, "origin_after": "override 1"}
    ]
    assert found["environment"] == [{"where": "node 0", "before": [], "after": ["B=x"]}]
    assert (found["commands"], found["files"], found["steps"], found["inputs"]) == ([], [], [], [])


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "here are 0"),
        (("job.yaml",), "here are 1"),
        (("a.yaml", "b.yaml", "c.yaml"), "here are 3"),
        (("precision=bf16", "job.yaml"), "no job stands before it"),
    ],
)
def test_misuse_says_how_to_ask(jobc_command, job, words, said):
    """Two sides, or one with overrides."""
    done = jobc_command("diff", *words)
    assert done.returncode == 2
    assert said in done.stderr
