"""Status, logs and stop: steps that concern a run that was started before."""

import signal

import jobc.executor
import pytest
from jobc.compiler.plan import Command, Ref, RunCommand
from jobc.spec.findings import JobcError

WAIT = "import time\nprint('ready', flush=True)\ntime.sleep(600)"


def step(*argv, output="capture"):
    return RunCommand(command=Command(argv=argv, output=output))


def test_stop_ends_the_run(house):
    """The stop steps of a plan reach the executor that runs it, and leave the rest to it."""
    stop = (step("kill", "-TERM", (Ref("pid"),)),)
    plan = house.plan(house.python(WAIT), stop=stop)
    run = house.drive(plan)
    run.until(b"ready")
    assert jobc.executor.alive(jobc.executor.load(run.run_dir))
    assert jobc.executor.run_verb(plan, run.run_dir, plan.stop, house.settings()) == 0
    assert run.end()[0] == 143
    assert jobc.executor.load(run.run_dir).state == "stopped"


def test_stop_of_a_run_that_ended_touches_nobody(house, capfdbinary):
    """A process id that the run no longer has is never signalled."""
    plan = house.plan(house.python("pass"), stop=(step("touch", (Ref("project_dir"), "/", Ref("pid"))),))
    outcome, _, _ = house.run(plan)
    settings = house.settings()
    assert jobc.executor.run_verb(plan, outcome.run_dir, plan.stop, settings) == 1
    assert settings.stderr.getvalue() == f"jobc: run {outcome.run_id} is not running (succeeded)\n".encode()
    assert sorted(path.name for path in house.project.iterdir()) == ["rank_0.py"]


def test_stop_of_a_run_whose_executor_was_killed_says_so(house):
    """A record that still says running is not believed."""
    plan = house.plan(house.python(WAIT), stop=(step("kill", (Ref("pid"),)),))
    run = house.drive(plan)
    run.until(b"ready")
    run.process.kill()
    run.process.wait()
    settings = house.settings()
    assert jobc.executor.run_verb(plan, run.run_dir, plan.stop, settings) == 1
    assert b"its executor is gone" in settings.stderr.getvalue()


def test_verb_leaves_a_running_job_alone(house):
    """Looking at a run does not end it, and needs none of its secrets."""
    plan = house.plan(house.python(WAIT), status=(step("cat", (Ref("run_dir"), "/record.json")),))
    run = house.drive(plan)
    run.until(b"ready")
    settings = house.settings()
    assert jobc.executor.run_verb(plan, run.run_dir, plan.status, settings) == 0
    assert b'"running"' in settings.stdout.getvalue()
    assert run.process.poll() is None
    run.process.send_signal(signal.SIGTERM)
    assert run.end()[0] == 143


def test_verb_returns_the_code_of_its_command(house):
    """A verb that fails says how."""
    plan = house.plan(house.python("pass"), status=(step("sh", "-c", "exit 5"),))
    outcome, _, _ = house.run(plan)
    assert jobc.executor.run_verb(plan, outcome.run_dir, plan.status, house.settings()) == 5


@pytest.mark.parametrize("content", [None, b"", b"{}", b"\xff"])
def test_verb_without_a_record_is_an_error_of_ours(house, content):
    """A folder that is no run, or a torn record, is said to be one."""
    if content is not None:
        (house.project / "record.json").write_bytes(content)
    with pytest.raises(JobcError, match="no readable record"):
        jobc.executor.run_verb(house.plan(house.python("pass")), house.project, (), house.settings())
