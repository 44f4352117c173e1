"""Asking machines: what takes too long, what cannot be read, and what many machines say together."""

import os
import sys
import time

import msgspec
import pytest
from jobc.cli.api import load, plan
from jobc.compiler.plan import Command, NodeGroup, Ref, RunForNodes
from jobc.executor import Settings
from jobc.executor.fitness import unfit
from jobc.executor.preflight import Report, Said, ask, read

WELL = Said(
    python="3.11.9", executable="/usr/bin/python3", torch="2.13.0", cpus=8, gpus=None, listed_gpus=None, memory=2**34,
    disk=2**40, write_fault=None, port_fault=None, mine=False, lookup_fault=None, time=0.0,
)  # fmt: skip


def report(host="localhost", clock=0.0, **said):
    """A machine that is well but for what is given."""
    return Report(
        node=0, host=host, here=True, ready=True, said=msgspec.structs.replace(WELL, **said), clock=clock, code=0
    )


@pytest.fixture
def judged(folder):
    """What is found about reports, for a job of two processes."""

    def judge(*reports):
        (folder / "job.yaml").write_text("script: train.py\nhardware: {kind: cpu, per_node: 2}\n")
        spec = load("job.yaml")
        return [(item.code, item.cause) for item in unfit(plan(spec), spec, reports)]

    return judge


@pytest.fixture
def asked(folder):
    """What comes back when nodes are asked with a line of sh."""

    def run(line, hosts=("a", "b"), patience=60.0):
        (folder / "job.yaml").write_text("script: train.py\n")
        made = plan("job.yaml")
        command = Command(argv=("sh", "-c", line, "sh", (Ref("host"),)), host=(Ref("host"),), output="capture")
        made = msgspec.structs.replace(
            made,
            nodes=(NodeGroup(first=0, count=len(hosts), hosts=hosts, processes=1, commands=()),),
            preflight=(RunForNodes(command=command),),
        )
        settings = Settings(
            project_dir=folder, env=os.environ, runs_dir=folder / "runs", stdout=sys.stdout, stderr=sys.stderr
        )
        return ask(made, settings, patience)

    return run


def test_machine_that_does_not_answer_is_given_up(asked, judged):
    """Its processes are ended, and what it started too; the other's words are there."""
    one, two = asked("test $1 = b || sleep 60; echo jobc-preflight here", patience=1.0)
    assert (one.here, one.code, two.here, two.code) == (False, None, True, 0)
    assert judged(one) == [("J420", "a cannot be reached: it did not answer in time")]


def test_nothing_is_left_of_what_was_asked(asked, folder):
    """Also a process that went on in the background."""
    asked(f"sleep 60 & echo $! > {folder}/pid.$1; echo jobc-preflight end 0", hosts=("a",))
    pid = int((folder / "pid.a").read_text())
    for _ in range(200):
        if not os.path.exists(f"/proc/{pid}"):  # noqa: PTH110 - a process, not a file
            return
        time.sleep(0.05)
    raise AssertionError("it is still there")


def test_many_machines_are_asked_in_their_order(asked):
    """More machines than are asked at the same time."""
    hosts = tuple(f"m{number}" for number in range(80))
    found = asked("echo jobc-preflight without $1", hosts=hosts)
    assert [(item.node, item.host, item.without) for item in found] == [
        (number, host, (host,)) for number, host in enumerate(hosts)
    ]


def test_words_that_are_not_ours_are_passed_over():
    """What `setup` prints, and a line of ours that stands alone after it."""
    out = "welcome\njobc-preflight here\nloading...\njobc-preflight ready\nx jobc-preflight empty\n"
    found = read(0, "a", out, "one\n\ntwo\n", 7, 0.0)
    assert (found.here, found.ready, found.empty, found.code, found.words) == (True, True, False, 7, ("one", "two"))


@pytest.mark.parametrize(
    ("said", "code", "cause"),
    [
        ({"disk": 2**29}, "J427", "localhost has 512 MiB of disk left, and the job needs 1 GiB"),
        ({"torch": None}, "J421", "torch is not installed for Python on localhost, and torchrun is a part of it"),
        ({"clock": -7.0}, "J426", "the clock of localhost is 7 s behind the one here"),
        ({"write_fault": "/home: Read-only file system"}, "J427", "localhost cannot write where the job's files go: /home: Read-only file system"),
    ],
)  # fmt: skip
def test_fault_of_a_machine_is_a_finding(judged, said, code, cause):
    """What these machines here do not show by themselves."""
    assert judged(report(**said)) == [(code, cause)]


def test_machine_that_is_well_has_none(judged):
    """No finding."""
    assert judged(report()) == []


def test_versions_are_compared_by_machines(judged):
    """Many machines with one version are counted, not listed."""
    others = [report(f"m{number}") for number in range(10)]
    found = judged(*others, report("old", python="3.10.1", torch="2.12.1"))
    listed = "m0, m1, m2, m3, m4, m5, m6, m7 and 2 more"
    assert found == [
        ("J422", f"torch is not the same everywhere: 2.13.0 on {listed}; 2.12.1 on old"),
        ("J423", f"Python is not the same everywhere: 3.11.9 on {listed}; 3.10.1 on old"),
    ]


def test_torch_without_cuda_is_told_from_missing_gpus(judged):
    """nvidia-smi lists what torch cannot use."""
    cause = (
        "the job asks for 2 GPUs on each machine, and localhost has 0 that torch 2.13.0+cpu can use, of 8 that"
        " nvidia-smi lists"
    )
    assert judged(report(gpus=0, listed_gpus=8, torch="2.13.0+cpu")) == [("J424", cause)]
