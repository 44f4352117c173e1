"""Runs that something else carries out: here a small spooler, a process of its own that takes jobs from a folder."""

import subprocess
import sys
import tarfile

import jobc.executor
import msgspec
import pytest
from jobc.compiler.plan import Capture, Command, LaunchPlan, NodeGroup, PackFiles, Ref, Report, RunCommand, WriteFile
from jobc.executor import handover
from jobc.executor.packing import pack
from jobc.executor.placeholders import run_word
from jobc.spec import FindingsError

SPOOLER = """
import os, subprocess, sys, time
from pathlib import Path
spool, running = Path(sys.argv[1]), {}
def note(number, word):
    (spool / f".{number}").write_text(word)
    (spool / f".{number}").rename(spool / f"{number}.state")
while not (spool / "end").exists():
    for job in spool.glob("*.job"):
        number = job.name.partition(".")[0]
        job.rename(spool / f"{number}.taken")
        lines = (spool / f"{number}.taken").read_text().split("\\n")
        out = open(lines[0], "ab")
        running[number] = subprocess.Popen(["sh", "-c", "\\n".join(lines[1:])], stdout=out, start_new_session=True)
        note(number, "WORKS")
    for number, process in list(running.items()):
        if (spool / f"{number}.cancel").exists():
            process.kill()
            process.wait()
            note(number, "GONE")
            del running[number]
        elif process.poll() is not None:
            note(number, f"DONE {process.returncode}" if process.returncode == 0 else f"BROKEN {process.returncode}")
            del running[number]
    time.sleep(0.02)
for process in running.values():
    process.kill()
"""
SUBMIT = """\
number=$(ls "$0" | grep -c taken); number=$((number + 100))
echo "welcome to the spooler"
echo "it is number $number."
printf '%s\\n%s\\n' "$1" "$2" > "$0/new"
mv "$0/new" "$0/$number.job"
while [ -e "$0/$number.job" ]; do sleep 0.01; done
"""
STATES = {"WORKS": "running", "DONE": "succeeded", "BROKEN": "failed", "GONE": "stopped"}


@pytest.fixture
def spool(tmp_path):
    folder = tmp_path / "spool"
    folder.mkdir()
    process = subprocess.Popen([sys.executable, "-c", SPOOLER, folder])
    yield folder
    (folder / "end").touch()
    process.wait(30)


def handed_over(spool, script, *, says=r"^it is number (\d+)\.", more=(), **fields):
    """A plan whose run the spooler carries out; what it writes goes to the file of node 0."""
    log = (Ref("run_dir"), "/logs/node_0.stdout.log")
    number = (f"{spool}/", Ref("captured", name="job_id"), ".state")
    report = Report(command=Command(argv=("cat", number)), pattern=r"^(?P<word>\w+)( (?P<code>\d+))?$", states=STATES)
    submit = Command(argv=("sh", "-c", SUBMIT, str(spool), log, script), output="tagged", title="spooler")
    fields = {"spec": {"a": 1}, **fields}
    node = Command(argv=("sh", "-c", script), ranks=(0,), output="tagged")
    return LaunchPlan(
        name="job",
        origins={},
        nodes=(NodeGroup(first=0, count=1, processes=1, commands=(node,)),),
        submit=(*more, RunCommand(command=submit, captures=(Capture(name="job_id", pattern=says),))),
        status=(report,),
        wait=(Report(command=report.command, pattern=report.pattern, states=STATES, every=0.05),),
        stop=(RunCommand(command=Command(argv=("touch", (f"{spool}/", Ref("captured", name="job_id"), ".cancel")))),),
        **fields,
    )


def test_run_is_followed_to_its_end(house, spool):
    """What it writes is shown as it comes, and its end is that of the job."""
    outcome, out, err = house.run(handed_over(spool, "echo one; sleep 0.3; echo two"))
    assert outcome.exit_code == 0
    assert out == b"one\ntwo\n"
    assert b"it is number 100." in err
    assert b"jobc: running (WORKS)" in err
    record = jobc.executor.load(outcome.run_dir)
    assert (record.state, record.captured, record.word) == ("succeeded", {"job_id": "100"}, "DONE")


def test_exit_code_is_the_one_that_was_said(house, spool):
    """A job that fails there fails here."""
    outcome, _, _ = house.run(handed_over(spool, "exit 7"))
    assert outcome.exit_code == 7
    assert jobc.executor.load(outcome.run_dir).state == "failed"


def test_run_goes_on_by_itself(house, spool):
    """Without waiting nothing of ours stays; whoever asks later hears how it is."""
    plan = handed_over(spool, "sleep 600")
    settings = house.settings()
    settings = jobc.executor.Settings(
        **{name: getattr(settings, name) for name in settings.__struct_fields__} | {"wait": False}
    )
    outcome = jobc.executor.execute(plan, settings)
    record, told = handover.look(plan, outcome.run_dir, {"PATH": "/bin:/usr/bin"})
    assert (record.state, told.standing) == ("submitted", "running")
    assert jobc.executor.run_verb(plan, outcome.run_dir, plan.stop, house.settings()) == 0
    going_on = handover.Asking(plan, outcome.run_dir, {"PATH": "/bin:/usr/bin"}, lambda _: None)
    house.wait_for(lambda: not going_on())
    record = jobc.executor.load(outcome.run_dir)
    assert (record.state, record.exit_code) == ("stopped", 143)


def test_silent_scheduler_changes_nothing(house, spool):
    """Where nothing is known of a run its record stays, and the words of the command are kept for the person."""
    plan = handed_over(spool, "sleep 0.2")
    outcome, _, _ = house.run(plan)
    (spool / "100.state").unlink()
    record = jobc.executor.load(outcome.run_dir)
    told = handover.ask(plan, outcome.run_dir, record, {"PATH": "/bin:/usr/bin"})
    assert told.standing is None
    assert "100.state" in handover.in_words(told)


def test_later_steps_know_what_was_captured(house, spool):
    """A command after the one that handed the run over may name it."""
    plan = handed_over(spool, "true")
    noted = RunCommand(command=Command(argv=("touch", ("noted-", Ref("captured", name="job_id")))))
    house.run(msgspec.structs.replace(plan, submit=(*plan.submit, noted)))
    assert (house.project / "noted-100").exists()


def test_number_that_is_not_said_is_a_finding(house, spool):
    """The run is not taken for one that was handed over."""
    with pytest.raises(FindingsError) as caught:
        house.run(handed_over(spool, "true", says=r"^job (\d+)"))
    assert [item.code for item in caught.value.findings] == ["J413"]
    assert "welcome to the spooler" in str(caught.value)
    assert {jobc.executor.load(path).state for path in house.runs.iterdir()} == {"failed"}


def test_earlier_run_is_named_by_its_number(house, spool):
    """A run that begins after another is given what the scheduler calls that."""
    first, _, _ = house.run(handed_over(spool, "true"))
    after = WriteFile(path="after", content=(Ref("earlier", name="last"),))
    second, _, _ = house.run(handed_over(spool, "true", more=(after,), spec={"depends_on": ["last"]}))
    assert (second.run_dir / "after").read_text() == jobc.executor.load(first.run_dir).captured["job_id"]


@pytest.mark.parametrize(("script", "code"), [("exit 3", "J412"), (None, "J407")])
def test_earlier_run_that_will_not_do_is_refused(house, spool, script, code):
    """A run that would never begin is not handed over."""
    if script is not None:
        house.run(handed_over(spool, script))
    with pytest.raises(FindingsError) as caught:
        house.run(handed_over(spool, "true", spec={"depends_on": ["last"]}))
    assert [item.code for item in caught.value.findings] == [code]
    assert len(list(house.runs.iterdir() if house.runs.exists() else ())) == (script is not None)


def test_earlier_run_of_this_machine_has_no_number(house, spool):
    """What no scheduler carried out, none can wait for."""
    house.run(house.plan(house.python("pass")))
    with pytest.raises(FindingsError) as caught:
        house.run(handed_over(spool, "true", spec={"depends_on": ["last"]}))
    assert [item.code for item in caught.value.findings] == ["J412"]


def test_archive_is_the_same_whenever_it_is_made(house):
    """Neither times nor owners are in it; what can be run can be run."""
    for name in ("b.py", "a.sh"):
        house.script(f"# {name}", name)
    (house.project / "a.sh").chmod(0o755)
    first = pack(house.project, ("b.py", "a.sh"))
    (house.project / "b.py").touch()
    assert pack(house.project, ("a.sh", "b.py")) == first
    plan = house.plan(house.python("pass"), before=(PackFiles(path="source.tar.gz", files=("a.sh", "b.py")),))
    outcome, _, _ = house.run(plan)
    with tarfile.open(outcome.run_dir / "source.tar.gz") as archive:
        assert [(entry.name, entry.mode, entry.mtime) for entry in archive] == [("a.sh", 0o755, 0), ("b.py", 0o644, 0)]
        assert archive.extractfile("b.py").read() == b"# b.py"


@pytest.mark.parametrize(
    ("run_id", "word"),
    [
        ("digits-20261121-101500-3f2a", "digits-20261121-101500-3f2a"),
        ("My.Job_1-20261121-101500-3f2a", "my-job-1-20261121-101500-3f2a"),
        ("9lives-20261121-101500-3f2a", "r9lives-20261121-101500-3f2a"),
        ("123-20261121-101500-0042", "r123-20261121-101500-0042"),
        ("a" * 63 + "-20261121-101500-3f2a", "r" + "a" * 18 + "-20261121-101500-3f2a"),
    ],
)
def test_word_of_a_run_is_a_label(run_id, word):
    """Lower-case letters, digits and dashes, a letter first, at most 40."""
    assert run_word(run_id) == word
