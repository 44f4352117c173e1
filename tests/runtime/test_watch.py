"""Processes that keep each other waiting: who is where is said within seconds, and what cannot end well is ended."""

import pytest
from jobc.runtime.watching.judge import PATIENCE, after_failure, judge
from jobc.runtime.watching.sight import Sight
from jobc.spec.findings import Place


def sight(rank, state="waits", operation="barrier", sequence=5, seconds=PATIENCE + 1, line=None, **more):
    place = Place(source="train.py", line=line or 10 + rank, column=1)
    call = operation if state in ("waits", "failed") else None
    return Sight(
        rank=rank,
        state=state,
        operation=call,
        call=call,
        sequence=sequence,
        seconds=seconds,
        function="train",
        place=place,
        **more,
    )


def judged(*sights, by=None):
    by = by or next(item for item in sights if item is not None and item.state == "waits")
    return judge(dict(enumerate(sights)), by)


def test_processes_in_the_same_call_are_left_alone():
    """All that wait in one collective may have a slow network; torch's own time-out is theirs."""
    assert judged(sight(0), sight(1)) is None
    assert judged(sight(0, line=1), sight(1, line=2)) is None


def test_different_calls_are_an_error():
    """Nothing could make processes go on that all wait in different calls."""
    found = judged(sight(0), sight(1, operation="backward"))
    assert (found.code, found.severity) == ("J515", "error")
    text = found.render()
    assert "all processes wait for each other in `backward` and `barrier`" in text
    assert "train.py:10:1" in text
    assert "rank 1 waits in `backward` within `train`\n  train.py:11:1" in text


def test_the_same_call_in_another_number_is_an_error():
    """A loop that is longer in one process: the same line, but not the same collective."""
    found = judged(sight(0, sequence=6), sight(1, sequence=5))
    assert "not all in the same one (collectives so far: 5 in rank 1, 6 in rank 0)" in found.render()


def test_a_process_at_work_may_only_be_slow():
    """An evaluation in one process is a warning, and no reason to end anything."""
    found = judged(sight(0, "works"), sight(1), sight(2))
    assert (found.code, found.severity) == ("J514", "warning")
    assert "rank 1 has waited 5 s in `barrier` for rank 0" in found.render()
    assert "rank 0 is at work within `train`" in found.render()


def test_work_within_the_call_that_others_wait_in_is_no_news():
    """While the first process writes a checkpoint, the others are in the same `save_state`."""
    waiting = sight(1, line=7)
    writing = Sight(rank=0, state="works", call=waiting.call, place=waiting.place)
    assert judged(writing, waiting, sight(2, line=7)) is None


def test_a_process_that_ended_is_waited_for_in_vain():
    """One that has come to the end of its script will make no call any more."""
    found = judged(sight(0), sight(1, "works"), sight(2, "ended"))
    assert found.severity == "error"
    assert "rank 0 has waited 5 s in `barrier` for rank 2, which has ended" in found.render()


def test_a_process_that_does_not_answer_is_named():
    """A stopped process says nothing; that much can be said about it."""
    found = judged(sight(0), None)
    assert found.severity == "warning"
    assert "rank 1 does not answer" in found.render()


def test_only_the_lowest_that_waits_speaks():
    """One finding for all, and not before it has waited for a while."""
    assert judged(sight(0, "works"), sight(1), sight(2), by=sight(2)) is None
    assert judged(sight(0, seconds=1.0), sight(1, "works")) is None


def test_data_on_its_way_is_no_deadlock():
    """A large tensor takes time on a slow network: the threads that send it are busy."""
    assert judged(sight(0, sequence=6), sight(1, sequence=5, busy=0.5)) is None
    assert judged(sight(0, sequence=6), sight(1, sequence=5, seconds=1.0)) is None


def test_many_processes_are_shown_by_place():
    """A thousand ranks at one place are one line."""
    found = judged(sight(0), *(sight(rank, "works", line=7) for rank in range(1, 1000)))
    assert "ranks 1-999 is at work" not in found.render()
    assert "ranks 1-999 are at work within `train`\n  train.py:7:1" in found.render()
    assert found.render().count("train.py:") == 2


def test_failure_because_of_another():
    """Lost connections are explained by what the other one did, unless it says so itself."""
    mine = sight(0, "failed")
    assert "rank 0 was in `barrier`, and rank 1 had ended" in after_failure({0: mine, 1: sight(1, "ended")}, mine).cause
    assert after_failure({0: mine, 1: sight(1, "failed", own=True)}, mine) is None
    assert after_failure({0: mine, 1: sight(1, "failed")}, mine) is None


HEAD = """
import sys, time
import torch
from jobc import Accelerator
accelerator = Accelerator()
main = accelerator.is_main_process
model = accelerator.prepare(torch.nn.Linear(4, 1))
def step():
    accelerator.backward(model(torch.ones(2, 4)).sum())
"""
SWALLOWS = """
for number in range(4):
    try:
        if number == 1 and not main: raise ValueError
        step()
    except ValueError: pass
accelerator.wait_for_everyone()
"""
CASES = {
    "a call under a condition": (
        "if main: accelerator.wait_for_everyone()\nfor _ in range(3): step()\n",
        "all processes wait for each other in",
        ("accelerator.wait_for_everyone()", "accelerator.backward("),
    ),
    "more data in one process": (
        "for _ in range(4 if main else 3): step()\naccelerator.wait_for_everyone()\n",
        "all processes wait for each other in",
        ("accelerator.wait_for_everyone()", "accelerator.backward("),
    ),
    "an exception that is swallowed": (
        SWALLOWS,
        "all processes wait for each other in",
        ("accelerator.wait_for_everyone()", "accelerator.backward("),
    ),
    "one that ends early": (
        "if main: step()\n",
        "rank 0 was in `backward`, and rank 1 had ended",
        ("accelerator.backward(", "rank 1 has come to the end of its script"),
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_job_that_waits_in_vain_is_ended_with_places(jobc_command, folder, case):
    """The finding has the call, file and line of each rank, and is the last that the screen shows."""
    text, cause, places = CASES[case]
    (folder / "train.py").write_text(HEAD + text)
    (folder / "job.yaml").write_text("script: train.py\nhardware: {kind: cpu, per_node: 2}\n")
    ended = jobc_command("run", "job.yaml")
    assert ended.returncode == 1, ended.stderr
    assert f"error[J515]: {cause}" in ended.stderr
    for place in places:
        assert place in ended.stderr.partition("error[J515]")[2], ended.stderr
    assert "jobc: rank 0 failed: exit code 1" in ended.stderr


def test_process_that_is_only_slow_is_waited_for(jobc_command, folder):
    """A warning, once for a place in the code, and the training goes on."""
    text = "for _ in range(2):\n    if main: time.sleep(7)\n    accelerator.wait_for_everyone()\nprint('done')\n"
    (folder / "train.py").write_text(HEAD + text)
    (folder / "job.yaml").write_text("script: train.py\nhardware: {kind: cpu, per_node: 2}\n")
    ended = jobc_command("run", "job.yaml")
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.count("done") == 2
    assert ended.stderr.count("warning[J514]: rank 1 has waited") == 1
    assert "main: time.sleep(7)" in ended.stderr


@pytest.mark.parametrize("paradigm", ["ddp", "fsdp"])
def test_debug_mode_compares_calls_before_they_run(jobc_command, folder, paradigm):
    """Another call, or another shape, is an error at once in each process, with the places of all."""
    for text, words in (
        ("if main: accelerator.gather(torch.ones(3))\naccelerator.wait_for_everyone()\n", "rank 1 calls `barrier`"),
        ("accelerator.gather(torch.ones(3 if main else 2))\n", "rank 1 calls `gather` with float32[2]"),
    ):
        (folder / "train.py").write_text(HEAD + "step()\n" + text)
        (folder / "job.yaml").write_text(
            f"script: train.py\nhardware: {{kind: cpu, per_node: 2}}\nparadigm: {paradigm}\ntraining: {{debug: true}}\n"
        )
        ended = jobc_command("run", "job.yaml")
        assert ended.returncode == 1, ended.stderr
        assert "error[J515]: rank 0 calls `gather` with float32[3]" in ended.stderr
        assert words in ended.stderr


def test_watch_leaves_when_training_ends(launch, tmp_path):
    """No thread is left after `end_training`, and another group is watched again."""
    (tmp_path / "script.py").write_text(
        "import threading\n"
        "from jobc import Accelerator\n"
        "def names(): return [item.name for item in threading.enumerate()].count('jobc-watch')\n"
        "for _ in range(3):\n"
        "    accelerator = Accelerator()\n"
        "    Accelerator()\n"
        "    assert names() == 1\n"
        "    accelerator.wait_for_everyone()\n"
        "    accelerator.end_training()\n"
        "    assert names() == 0\n"
    )
    ended = launch(tmp_path / "script.py")
    assert ended.returncode == 0, ended.stderr


def test_first_process_may_leave_with_the_store(pair, tmp_path):
    """Where the first process holds the store and ends before the others, nothing is said about it."""
    (tmp_path / "script.py").write_text(
        "import time\n"
        "from jobc import Accelerator\n"
        "accelerator = Accelerator()\n"
        "accelerator.wait_for_everyone()\n"
        "if not accelerator.is_main_process: time.sleep(2.5)\n"
    )
    assert [(code, err) for code, _, err in pair(tmp_path / "script.py")] == [(0, ""), (0, "")]


def test_one_process_is_not_watched(alone, tmp_path):
    """There is nobody to wait for."""
    (tmp_path / "script.py").write_text(
        "import threading\nfrom jobc import Accelerator\nAccelerator()\nassert threading.active_count() == 1\n"
    )
    ended = alone(tmp_path / "script.py")
    assert ended.returncode == 0, ended.stderr
