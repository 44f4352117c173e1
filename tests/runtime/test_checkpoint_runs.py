"""Trainings that are killed for real, and that go on in other worlds."""

import json
import shutil
import subprocess
from ast import literal_eval
from pathlib import Path

import pytest
from jobc.runtime.checkpoint import folders, manifest, verify

SCRIPT = Path(__file__).parent / "workers" / "training_runs.py"


@pytest.fixture(scope="module")
def begin(launch, alone):
    """Trains in a world of some size; the finished process."""

    def start(size, write, options=(), spec=None, env=None, **values):
        write.mkdir(exist_ok=True)
        given = json.dumps({"folder": str(write.parent / "checkpoints"), "write": str(write), **values})
        env = {**(env or {}), **({} if spec is None else {"JOBC_SPEC": spec})}
        return (
            launch(SCRIPT, given, processes=size, options=options, **env) if size > 1 else alone(SCRIPT, given, **env)
        )

    return start


@pytest.fixture(scope="module")
def whole(begin, tmp_path_factory):
    """What a training of one process that is let alone sees, and what it leaves behind."""
    write = tmp_path_factory.mktemp("whole")
    done = begin(1, write)
    assert done.returncode == 0, done.stderr
    return seen(write, 1), (write / "left.txt").read_text()


def seen(write, size):
    """Batches by number, each with the samples of all processes in order; the last that was said of each counts."""
    ranks = [
        dict(line.split(" ", 1) for line in (write / f"rank{rank}.txt").read_text().splitlines())
        for rank in range(size)
    ]
    return {int(number): [literal_eval(lines[number])[0] for lines in ranks] for number in ranks[0]}


def samples(batches):
    return [sample for number in sorted(batches) for ids in batches[number] for sample in ids]


def test_samples_are_the_same_in_worlds_of_other_sizes(begin, whole, tmp_path):
    """2 -> 4 -> 1 -> 2 processes in the middle of an epoch, by DDP and FSDP: each sample once, in the same order."""
    epoch = samples(whole[0])[:120]
    assert sorted(epoch) == list(range(120))
    stages = [
        (2, {"save_at": [3], "stop_at": 3}),
        (4, {"save_at": [5], "stop_at": 5, "resume": "batch-3", "fsdp": True}),
        (1, {"save_at": [9], "stop_at": 9, "resume": "batch-5"}),
        (2, {"resume": "batch-9"}),
    ]
    found = []
    for number, (size, values) in enumerate(stages):
        write = tmp_path / f"stage{number}"
        done = begin(size, write, epochs=1, accumulation=1, **values)
        assert done.returncode == 0, done.stderr
        found += samples(seen(write, size))
    assert found == epoch


@pytest.mark.parametrize("asynchronous", [False, True])
def test_killed_process_goes_on(begin, whole, packed, tmp_path, asynchronous):
    """SIGKILL in the middle of an epoch; started again, the run ends as the one that was let alone."""
    block = {"folder": str(tmp_path / "auto"), "every_steps": 3, "asynchronous": asynchronous, "keep": 2}
    training = {"gradient_accumulation": 3, "checkpoint": {**block, "resume": "auto"}}
    spec = packed({"hardware": {"kind": "cpu"}, "training": training})
    write = tmp_path / "killed"
    assert begin(1, write, spec=spec, kill=[37, 0]).returncode == -9
    done = begin(1, write, spec=spec)
    assert done.returncode == 0, done.stderr
    assert (seen(write, 1), (write / "left.txt").read_text()) == whole


def test_killed_rank_is_started_again_by_torchrun_and_goes_on(begin, packed, tmp_path):
    """The agent starts all processes again, and the script needs no word for it."""
    block = {"folder": str(tmp_path / "auto"), "every_steps": 2, "resume": "auto"}
    training = {"gradient_accumulation": 3, "checkpoint": block}
    spec = packed({"hardware": {"kind": "cpu", "per_node": 2}, "paradigm": {"kind": "ddp"}, "training": training})
    alone, killed = tmp_path / "alone", tmp_path / "killed"
    assert begin(2, alone).returncode == 0
    done = begin(2, killed, spec=spec, options=["--max-restarts=1"], kill=[20, 1])
    assert done.returncode == 0, done.stderr
    assert (killed / "left.txt").read_text() == (alone / "left.txt").read_text()
    assert seen(killed, 2) == seen(alone, 2)


@pytest.fixture(scope="module")
def slow_rename(tmp_path_factory):
    """A library that makes renaming slow, and kills in the middle of it."""
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler")
    library = tmp_path_factory.mktemp("library") / "slow_rename.so"
    source = SCRIPT.with_name("slow_rename.c")
    subprocess.run([compiler, "-shared", "-fPIC", "-o", str(library), str(source), "-ldl"], check=True)
    return str(library)


@pytest.mark.parametrize(
    ("to", "moment", "newest", "asynchronous"),
    [
        ("step-00000006", "before", "step-00000003", False),
        ("step-00000006", "after", "step-00000006", True),
        (".step-00000003.*.tmp", "after", "step-00000006", False),
    ],
    ids=["not yet in its place", "in its place", "old one taken away"],
)
def test_kill_in_a_slow_rename_leaves_a_complete_checkpoint(
    begin, whole, packed, slow_rename, tmp_path, to, moment, newest, asynchronous
):
    """As on a file server, where a rename takes long and whoever is killed does not know whether it was done."""
    block = {"folder": str(tmp_path / "auto"), "every_steps": 3, "asynchronous": asynchronous, "keep": 1}
    training = {"gradient_accumulation": 3, "checkpoint": {**block, "resume": "auto"}}
    spec = packed({"hardware": {"kind": "cpu"}, "training": training})
    env = {"LD_PRELOAD": slow_rename, "RENAME_SECONDS": "0.2", "RENAME_TO": to, "RENAME_KILLS": moment}
    write = tmp_path / "killed"
    assert begin(1, write, spec=spec, env=env).returncode == -9
    found = folders.newest(tmp_path / "auto")
    assert found is not None
    assert found.name == newest
    assert verify.faults(found, manifest.read(found)) == []
    done = begin(1, write, spec=spec)
    assert done.returncode == 0, done.stderr
    assert (seen(write, 1), (write / "left.txt").read_text()) == whole
    assert [item.path.name for item in folders.entries(tmp_path / "auto")] == ["step-00000018"]


def test_damaged_checkpoint_stops_a_resume_until_it_is_moved_away(begin, whole, packed, tmp_path):
    """The finding says what to do without a change of the script, and that works."""
    auto = tmp_path / "auto"
    training = {"gradient_accumulation": 3, "checkpoint": {"folder": str(auto), "every_steps": 3, "resume": "auto"}}
    spec = packed({"hardware": {"kind": "cpu"}, "training": training})
    write = tmp_path / "killed"
    assert begin(1, write, spec=spec, kill=[37, 0]).returncode == -9
    newest = folders.newest(auto)
    file = next(newest.glob("tensors-*"))
    file.write_bytes(file.read_bytes()[:-1])
    done = begin(1, write, spec=spec)
    assert done.returncode == 1
    assert "error[J521]" in done.stderr
    assert f"or move `{newest.name}` out of `{auto}`, and a job with `resume: auto` goes on from" in done.stderr
    newest.rename(tmp_path / newest.name)
    done = begin(1, write, spec=spec)
    assert done.returncode == 0, done.stderr
    assert (seen(write, 1), (write / "left.txt").read_text()) == whole
