"""The life of a run: started and let go, looked at, followed, waited for, stopped, run again, removed."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time

import pytest

COUNT = """
import os, sys, time
from pathlib import Path
rank = os.environ.get("RANK", "0")
print("rank", rank, "begins", flush=True)
print("a word of", rank, file=sys.stderr, flush=True)
while not Path("go").exists():
    time.sleep(0.02)
print("rank", rank, "ends", flush=True)
sys.exit(int(Path("go").read_text() or 0))
"""
TWO = "script: train.py\nhardware: {kind: cpu, per_node: 2}\nlauncher: python\n"


def wait_for(condition):
    """Until something is so; what is never so fails the test."""
    for _ in range(1500):
        if condition():
            return
        time.sleep(0.02)
    raise AssertionError("it never came to pass")


@pytest.fixture
def started(jobc_command, folder):
    """Starts a run that waits for a file and returns its id; none outlives the test."""
    (folder / "train.py").write_text(COUNT)
    ids = []

    def start(text=TWO, *words):
        (folder / "job.yaml").write_text(text)
        done = jobc_command("run", "--detach", "job.yaml", *words)
        assert done.returncode == 0, done.stderr
        ids.append(done.stdout.strip())
        wait_for(lambda: "begins" in jobc_command("logs", ids[-1]).stdout)
        return ids[-1]

    yield start
    (folder / "go").write_text("0")
    for run in ids:
        jobc_command("wait", run)


def states(jobc_command):
    return {run["run_id"]: run["state"] for run in json.loads(jobc_command("ps", "--format", "json").stdout)}


@pytest.mark.parametrize("text", [TWO, "script: train.py\n", TWO.replace("launcher: python\n", "")])
def test_detached_run_goes_on_by_itself(jobc_command, folder, started, text):
    """One process, several, with and without an agent: seen while they run, kept when they have ended."""
    run = started(text)
    assert states(jobc_command) == {run: "running"}
    status = jobc_command("status", run).stdout
    assert status.splitlines()[1].startswith("state      running for ")
    (folder / "go").write_text("0")
    assert jobc_command("wait", run).returncode == 0
    assert states(jobc_command) == {run: "succeeded"}
    log = jobc_command("logs", run)
    ends = [line for line in log.stdout.splitlines() if line.endswith("ends")]
    assert sorted(ends) == (["rank 0 ends"] if text == "script: train.py\n" else ["[0] rank 0 ends", "[1] rank 1 ends"])


def test_wait_has_the_exit_code_of_the_run(jobc_command, folder, started):
    """Also one that failed, and one that ended long ago; and the failed rank is named."""
    run = started()
    (folder / "go").write_text("7")
    assert [jobc_command("wait", word).returncode for word in (run, "last", run[:-2])] == [7, 7, 7]
    status = jobc_command("status", "last").stdout
    assert "failed with exit code 7" in status
    assert f"(jobc logs {run} --rank" in status


def test_stop_ends_a_run_and_says_so(jobc_command, started):
    """From another process, with the steps of the plan; stopping twice is no error."""
    run = started()
    done = jobc_command("stop", run)
    assert (done.returncode, done.stderr) == (0, f"{run} stopped\n")
    assert states(jobc_command) == {run: "stopped"}
    done = jobc_command("stop", run)
    assert (done.returncode, done.stderr) == (0, f"{run} does not run: it is stopped\n")
    assert jobc_command("wait", run).returncode == 143


def test_several_runs_are_stopped_and_waited_for(jobc_command, folder, started):
    """All are asked before one is waited for; a name that is none keeps all as they are."""
    first, second = started(), started()
    wrong = jobc_command("stop", first, "nosuch", second)
    assert (wrong.returncode, states(jobc_command)) == (2, {first: "running", second: "running"})
    done = jobc_command("stop", first, second)
    assert (done.returncode, done.stderr) == (0, f"{first} stopped\n{second} stopped\n")
    (folder / "go").write_text("0")
    third = started("script: train.py\n")
    assert jobc_command("wait", third).returncode == 0
    assert jobc_command("wait", third, second, first).returncode == 143


def test_run_whose_process_was_killed_is_lost(jobc_command, folder, started):
    """A record that says running is not believed; nobody waits for it."""
    run = started("script: train.py\n")
    pid = json.loads(jobc_command("status", run, "--format", "json").stdout)["pid"]
    os.kill(pid, signal.SIGKILL)
    wait_for(lambda: states(jobc_command) == {run: "lost"})
    assert jobc_command("wait", run).returncode == 1
    assert jobc_command("stop", run).returncode == 1
    assert "lost: the process that ran it is gone" in jobc_command("status", run).stdout


MISTAKE = """
from pathlib import Path
from jobc.cli.detach import detached

def start(begun):
    begun(Path("run"))
    raise ZeroDivisionError("a bug")

print(detached(start))
"""


def test_mistake_of_jobcs_own_is_in_the_log_of_the_run(folder):
    """Nobody is there any more who could be told."""
    (folder / "run/logs").mkdir(parents=True)
    done = subprocess.run([sys.executable, "-c", MISTAKE], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "run\n", "")
    wait_for(lambda: "ZeroDivisionError: a bug" in (folder / "run/logs/run.log").read_text())


def test_logs_choose_ranks_and_lines(jobc_command, folder, started):
    """By rank, by pattern, each stream where it belongs."""
    run = started()
    (folder / "go").write_text("0")
    jobc_command("wait", run)
    done = jobc_command("logs", run, "--rank", "1")
    assert (done.stdout, done.stderr) == ("[1] rank 1 begins\n[1] rank 1 ends\n", "[1] a word of 1\n")
    done = jobc_command("logs", run, "--grep", "^rank . e")
    assert (done.stdout, done.stderr) == ("[0] rank 0 ends\n[1] rank 1 ends\n", "")
    for words in (("--rank", "2"), ("--grep", "(")):
        assert jobc_command("logs", run, *words).returncode == 2


def test_logs_follow_until_the_run_ends(jobc_command, folder, started):
    """What comes later is shown too, and the command ends with the run."""
    run = started()
    command = [sys.executable, "-m", "jobc", "logs", "-f", run]
    with subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, text=True) as following:
        assert following.stdout.readline().endswith("begins\n")
        (folder / "go").write_text("0")
        rest = following.stdout.read()
    assert following.returncode == 0
    assert {"[0] rank 0 ends", "[1] rank 1 ends"} <= set(rest.splitlines())


def test_foreground_run_says_its_id_and_where_its_words_are(jobc_command, folder):
    """A single process writes to the terminal, which keeps nothing."""
    (folder / "job.yaml").write_text("script: train.py\n")
    done = jobc_command("run", "job.yaml")
    (run,) = states(jobc_command)
    assert (done.stdout, done.stderr) == ("trained\n", f"jobc: run {run}\n")
    done = jobc_command("logs", run)
    assert (done.returncode, done.stdout) == (0, "")
    assert "--detach keeps the output" in done.stderr


def test_detached_run_that_cannot_start_says_why(jobc_command, folder):
    """The finding comes to the one who asked, and no record is left."""
    (folder / "job.yaml").write_text("command: [./nope]\n")
    done = jobc_command("run", "-d", "job.yaml")
    assert (done.returncode, done.stdout) == (2, "")
    assert "error[J403]: `./nope` cannot be started" in done.stderr
    assert states(jobc_command) == {}


def test_rerun_repeats_the_plan_or_changes_it(jobc_command, folder):
    """The same plan without overrides; with them, the job with these after its own, wherever the person stands now."""
    (folder / "train.py").write_text("import sys; print(sys.argv[1:])\n")
    (folder / "job.yaml").write_text("script: train.py\nargs: [a]\n")
    assert jobc_command("run", "job.yaml", "args=[b]").stdout == "['b']\n"
    (folder / "job.yaml").write_text("script: train.py\nargs: [c]\nenv: {X: '1'}\n")
    assert jobc_command("rerun", "last").stdout == "['b']\n"
    assert jobc_command("rerun", "last", "name=other").stdout == "['b']\n"
    assert jobc_command("rerun", "last", "args=[d]").stdout == "['d']\n"
    runs = json.loads(jobc_command("ps", "--format", "json").stdout)
    assert [run["name"] for run in runs] == ["other", "other", "train", "train"]
    assert runs[0]["asked"]["overrides"] == ["args=[b]", "name=other", "args=[d]"]
    assert runs[2]["digest"] == runs[3]["digest"]


def test_rerun_refuses_what_has_changed(jobc_command, folder):
    """The same plan runs the same script, or says that it would not."""
    (folder / "job.yaml").write_text("script: train.py\n")
    jobc_command("run", "job.yaml")
    (folder / "train.py").write_text("print('other')\n")
    done = jobc_command("rerun", "last")
    assert (done.returncode, done.stdout) == (2, "")
    assert "error[J406]" in done.stderr
    assert jobc_command("rerun", "last", "--stale-ok").stdout == "other\n"


def test_rerun_of_a_saved_plan_takes_no_overrides(jobc_command, folder):
    """There is no job to change."""
    (folder / "job.yaml").write_text("script: train.py\n")
    jobc_command("plan", "job.yaml", "-o", "plan.json")
    jobc_command("run", "plan.json")
    assert jobc_command("rerun", "last").stdout == "trained\n"
    done = jobc_command("rerun", "last", "args=[x]")
    assert (done.returncode, "error[J202]" in done.stderr) == (2, True)


def test_clean_removes_what_was_named_and_never_a_run_that_goes_on(jobc_command, folder, started):
    """By name, by number, by age; first as a rehearsal."""
    (folder / "old.yaml").write_text("script: train.py\nname: old\n")
    (folder / "go").write_text("0")
    for _ in range(3):
        assert jobc_command("run", "old.yaml").returncode == 0
    (folder / "go").unlink()
    run = started()
    assert jobc_command("clean").returncode == 2
    assert jobc_command("clean", "--older-than", "soon").returncode == 2
    assert jobc_command("clean", "--older-than", "1d").stdout == ""
    assert len(jobc_command("clean", "--keep", "0", "-n").stdout.splitlines()) == 3
    assert len(states(jobc_command)) == 4
    assert len(jobc_command("clean", "--keep", "2").stdout.splitlines()) == 2
    done = jobc_command("clean", run)
    assert "stop it first" in done.stderr
    assert states(jobc_command)[run] == "running"
    assert jobc_command("clean", "old").stdout.startswith("old-")
    assert list(states(jobc_command)) == [run]


def test_torn_record_is_shown_and_can_be_removed(jobc_command, folder):
    """A folder that nobody can read does not hide the others."""
    (folder / "job.yaml").write_text("script: train.py\n")
    jobc_command("run", "job.yaml")
    jobc_command("run", "job.yaml", "name=torn")
    runs = folder.parent / "state" / "jobc" / "runs"
    (torn,) = runs.glob("torn-*")
    (torn / "record.json").write_text('{"format": 1')
    assert sorted(states(jobc_command).values()) == ["succeeded", "unreadable"]
    done = jobc_command("status", torn.name)
    assert (done.returncode, "error[J408]" in done.stderr) == (2, True)
    (torn / "record.json").unlink()
    (torn / "plan.json").write_text("[]")
    assert jobc_command("logs", torn.name).returncode == 2
    assert jobc_command("clean", torn.name).returncode == 0
    shutil.rmtree(runs)
    assert jobc_command("ps").stdout == "no runs yet\n"
