"""Plans for slices of TPUs: each way to get one, as committed records, and every gcloud line against gcloud's own flags."""

import json
import re
import shlex
from pathlib import Path

import pytest
from jobc.cli.api import load, plan
from jobc.compiler.diff import verbs
from jobc.compiler.plan import Report, RunCommand, WriteFile
from jobc.compiler.quoting import plain
from jobc.compiler.text import Paint, body
from jobc.spec.catalogue import tpus

GOLDEN = Path(__file__).parent / "golden"
FLAGS = json.loads((Path(__file__).parent / "gcloud.json").read_text())["commands"]
#: Of a gcloud that is newer than the one whose flags are committed.
NEWER = {"--request-valid-for-duration"}
JOB = """\
script: train.py
name: train
secrets: [HF_TOKEN]
target:
  kind: tpu_pod
  zone: us-east5-b
  project: my-project
"""
WAYS = {
    "tpu_vm": "hardware={kind: tpu, type: v5litepod-16}",
    "tpu_vm_spmd": "hardware={kind: tpu, type: v4-16, runtime: spmd} target.capacity=reserved limits.minutes=90",
    "queued": "hardware={kind: tpu, type: v6e-16} target.way=queued_resource target.capacity=spot target.valid_until=6h"
    " target.data_disks=[data] target.network=inside target.subnetwork=below target.internal_ips=true"
    " target.tags=[a,b] target.labels={team: one} target.service_account=a@b.c target.name=slice",
    "queued_flex": "hardware={kind: tpu, type: v6e-8} target.way=queued_resource target.capacity=flex_start"
    " target.max_minutes=120 target.keep=true",
    "instance": "hardware={kind: tpu, type: v6e-1} target.way=compute_engine target.capacity=flex_start"
    " target.max_minutes=240 target.valid_until=2h target.data_disks=[data] target.user=me",
    "group": "hardware={kind: tpu, type: tpu7x-16} target.way=compute_engine target.capacity=reserved"
    " target.reservation=ours target.network=inside target.subnetwork=below target.internal_ips=true"
    " target.tags=[a,b] target.labels={team: one} target.service_account=a@b.c target.data_disks=[data]",
    "existing": "hardware={kind: tpu, type: v4-16} target.existing=true target.name=mine",
}


@pytest.fixture
def made(folder):
    """The plan and the spec of a way."""

    def make(way):
        (folder / "job.yaml").write_text(JOB)
        words = re.split(r" (?=[a-z_.]+=)", WAYS[way])
        spec = load("job.yaml", words, env={})
        return plan(spec), spec

    return make


@pytest.mark.parametrize("way", WAYS)
def test_plan_is_the_committed_one(made, golden, way):
    """Steps, commands, variables and the verbs of a run's life."""
    planned, spec = made(way)
    blocks = body(planned, spec, Paint(color=False), 110)[1:]
    lines = [line for block in blocks for line in (*block, "")]
    lines += [f"  {name:<8} {line}" for name, steps in verbs(planned).items() if name != "submit" for line in steps]
    golden(GOLDEN / f"tpu_pod_{way}.txt", "\n".join(lines) + "\n")


def test_script_of_a_worker_is_the_committed_one(made, golden):
    """What each machine is given, the same for all; and what reaches each of a group."""
    planned, _ = made("group")
    for name in ("worker.sh", "each.sh", "hand_over.sh", "state.sh", "stop.sh"):
        written = next(step for step in planned.submit if isinstance(step, WriteFile) and name in plain(step.path))
        golden(GOLDEN / f"tpu_pod_{name}", plain(written.content))


def gcloud_lines(planned):
    """Every gcloud command of a plan, as words."""
    tuples = (
        planned.submit,
        planned.status,
        planned.logs,
        planned.follow,
        planned.wait,
        planned.stop,
        planned.preflight,
    )
    for step in (step for steps in tuples for step in steps):
        if isinstance(step, RunCommand | Report):
            words = [plain(word) for word in step.command.argv]
            if "gcloud" in words:
                yield words[words.index("gcloud") :]
            texts = [word for word in words if "\n" in word]
        else:
            texts = (
                [plain(step.content)]
                if isinstance(step, WriteFile) and re.search(r"each|state|stop", plain(step.path))
                else []
            )
        for found in (found for text in texts for found in re.findall(r"gcloud [^\n&]*", text)):
            yield shlex.split(found.partition(") ||")[0])


@pytest.mark.parametrize("way", WAYS)
def test_gcloud_has_every_command_and_flag(made, way):
    """As the committed table says, made from gcloud's own: names, and whether a value follows."""
    planned, _ = made(way)
    seen = 0
    for words in gcloud_lines(planned):
        text = " ".join(word for word in words[1:] if not word.startswith("-")).removeprefix("alpha ")
        command = max((name for name in FLAGS if f"{text} ".startswith(f"{name} ")), key=len, default=None)
        assert command is not None, f"gcloud has no command `{text}`"
        known = {**FLAGS[command]["alpha"], **FLAGS[command]["flags"]}
        for word in (word for word in words if word.startswith("--") and word != "--"):
            name, equals, value = word.partition("=")
            if name in NEWER:
                continue
            assert name in known, f"`gcloud {command}` has no flag `{name}`"
            assert bool(equals) == (known[name] != "bool"), word
            if isinstance(known[name], list) and value not in known[name]:
                assert value in FLAGS[command]["alpha"][name], word
        seen += 1
    assert seen >= 4


def test_version_is_said_as_each_command_takes_it(made):
    """The same thing is `--version` where a machine is made at once, and `--runtime-version` in the queue."""
    flags = {way: {word for words in gcloud_lines(made(way)[0]) for word in words} for way in ("tpu_vm", "queued")}
    assert "--version=v2-alpha-tpuv5-lite" in flags["tpu_vm"]
    assert "--runtime-version=v2-alpha-tpuv6e" in flags["queued"]
    assert not any(word.startswith("--version") for word in flags["queued"])


@pytest.mark.parametrize(
    ("name", "machine"),
    [("v6e-1", "ct6e-standard-1t"), ("v6e-8", "ct6e-standard-8t"), ("v6e-16", "ct6e-standard-4t"),
     ("v5p-8", "ct5p-hightpu-4t"), ("v5litepod-4", "ct5lp-hightpu-4t"), ("tpu7x-16", "tpu7x-standard-4t")],
)  # fmt: skip
def test_machine_of_compute_engine_follows_from_the_type(name, machine):
    """Its last number is that of its chips."""
    generation, number = tpus().named(name)
    assert generation.machine(number) == machine


@pytest.mark.parametrize(
    ("said", "standing", "code"),
    [
        ("jobc-slice READY\njobc-worker running\njobc-worker running\n", "running", None),
        ("jobc-slice READY\njobc-worker succeeded 0\njobc-worker running\n", "running", None),
        ("jobc-slice READY\njobc-worker succeeded 0\njobc-worker succeeded 0\n", "succeeded", "0"),
        ("jobc-slice READY\njobc-worker succeeded 0\njobc-worker failed 7\n", "failed", "7"),
        ("jobc-slice READY\njobc-worker running\njobc-worker lost 1\n", "failed", "1"),
        ("jobc-slice READY\njobc-worker stopped 143\njobc-worker running\n", "stopped", "143"),
        ("jobc-slice PREEMPTED\n", "failed", None),
        ("jobc-slice READY\njobc-worker succeeded 0\n", None, None),
        ("jobc-slice READY\n", None, None),
        ("", None, None),
    ],
)
def test_standing_of_a_run_is_that_of_all_machines(made, said, standing, code):
    """One that failed speaks for all; a machine that says nothing leaves it open."""
    report = made("tpu_vm_spmd")[0].status[0]
    found = re.search(report.pattern, said, re.MULTILINE)
    assert (found and report.states[found["word"]], found and found["code"]) == (standing, code)
