"""The target `tpu_pod`: a slice of TPUs of Google's cloud, made, used and removed with gcloud.

Its machines carry on by themselves once they are started: a script on each looks after its processes, and the steps of
`status`, `logs` and `stop` ask it.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from ...spec import Finding, ResolvedSpec, finding
from ...spec.targets import TpuPod
from ..launchers import Launcher
from ..launchers.base import joined
from ..plan import Command, NodeGroup, PackFiles, Ref, Report, RunCommand, Standing, Step, Text, WriteFile
from .base import Deployment
from .sent import check_sent, files_of, hashes
from .tpu_machines import MAKING, ONLY, Machines, line, machines, run, slice_of, target_of
from .tpu_worker import worker_commands, worker_script

LAUNCHERS = frozenset({"xla"})
DEPENDS = False

#: The run's folder on the machines, below the home folder.
_THERE: Text = (".jobc/", Ref("run_id"))
_SCRIPT: Text = ("bash .jobc/", Ref("run_id"), "/send/worker.sh ")
_STATES: dict[str, Standing] = {
    "running": "running",
    "succeeded": "succeeded",
    "failed": "failed",
    "lost": "failed",
    "stopped": "stopped",
    "PREEMPTED": "failed",
    "TERMINATED": "failed",
    "SUSPENDED": "failed",
    "STOPPED": "stopped",
    "DELETING": "stopped",
}
_USUAL = TpuPod()


def check(spec: ResolvedSpec) -> Iterator[Finding]:
    """What has to be said of a slice, what the chosen way to get it does not have, files that are not here."""
    yield from _incomplete(spec)
    yield from _type(spec)
    yield from _idle(spec)
    yield from check_sent(spec, target_of(spec).exclude)


def _incomplete(spec: ResolvedSpec) -> Iterator[Finding]:
    target = target_of(spec)
    if target.zone is None:
        cause = "the target `tpu_pod` needs the zone that its machines are in"
        yield finding("J350", cause, place=spec.place("target"), next_step="add `zone:`, such as `us-east5-b`")
    if slice_of(spec) is None and getattr(spec.job.hardware, "type", None) is None:
        cause = "the target `tpu_pod` makes a slice of a type, and the job names none"
        step = "write `hardware: {kind: tpu, type: v6e-16}`"
        yield finding("J350", cause, place=spec.place("hardware") or spec.place("target"), next_step=step)
    if target.existing and target.name is None:
        cause = "`target.existing` uses a slice that is there, and nothing says which"
        yield finding("J350", cause, place=spec.place("target.existing"), next_step="add `name:`")
    if target.existing:
        return
    named = {
        "a group of machines of Compute Engine": target.way == "compute_engine" and spec.job.nodes.count > 1,
        "a disk of machines of Cloud TPU": target.way != "compute_engine" and bool(target.data_disks),
    }
    for what, needed in named.items():
        if needed and target.project is None:
            cause = f"gcloud names {what} with the project, and the job says none"
            yield finding("J350", cause, place=spec.place("target"), next_step="add `project:`")
    if target.way == "compute_engine" and target.capacity == "reserved" and target.reservation is None:
        cause = "`capacity: reserved` takes machines from a reservation, and nothing says which"
        yield finding("J350", cause, place=spec.place("target.capacity"), next_step="add `reservation:`")
    if target.capacity == "flex_start" and target.way != "tpu_vm" and target.max_minutes is None:
        cause = "`capacity: flex_start` gives machines for a limited time, and nothing says how long"
        yield finding("J350", cause, place=spec.place("target.capacity"), next_step="add `max_minutes:`")


def _type(spec: ResolvedSpec) -> Iterator[Finding]:
    """Generations that the way does not have."""
    target, found = target_of(spec), slice_of(spec)
    if found is None or target.existing:
        return
    generation, number = found
    name, place = f"{generation.prefix}-{number}", spec.place("target.way") or spec.place("hardware.type")
    if target.way == "compute_engine" and not generation.image:
        cause = f"Compute Engine gives out no machines with a {name}"
        yield finding("J351", cause, place=place, next_step="use `way: queued_resource`, or `way: tpu_vm`")
    elif target.way == "compute_engine" and spec.job.nodes.count > 1 and str(number) not in generation.topologies:
        cause = f"how the chips of a {name} are connected is not known, and Compute Engine asks for it"
        listed = ", ".join(f"{generation.prefix}-{word}" for word in generation.topologies)
        yield finding("J351", cause, place=spec.place("hardware.type"), next_step=f"use one of {listed}")
    elif target.way != "compute_engine" and not generation.runtime_version:
        cause = f"Cloud TPU has no {name}: its API is frozen, and newer TPUs are machines of Compute Engine"
        yield finding("J351", cause, place=place, next_step="use `way: compute_engine`")


def _idle(spec: ResolvedSpec) -> Iterator[Finding]:
    """Settings of machines that are made in another way, or not made at all."""
    target = target_of(spec)
    for name in MAKING:
        path = f"target.{name}"
        if getattr(target, name) == getattr(_USUAL, name):
            continue
        if target.existing:
            cause = f"`{path}` has no effect: with `existing: true` no machine is made"
            yield finding("J311", cause, place=spec.place(path), next_step="leave it out")
        elif target.way not in ONLY.get(name, (target.way,)):
            ways = " or ".join(f"`way: {way}`" for way in ONLY[name])
            cause = f"`{path}` has no effect with `way: {target.way}`"
            yield finding("J311", cause, place=spec.place(path), next_step=f"leave it out, or use {ways}")
    if target.existing and target.keep:
        cause = "`target.keep` has no effect: with `existing: true` the slice stays anyway"
        yield finding("J306", cause, place=spec.place("target.keep"))
    if target.existing:
        return
    flex, reserved = target.capacity == "flex_start", target.capacity == "reserved"
    way = target.way
    idle = {
        "capacity": (flex and way == "tpu_vm", "machines of `way: tpu_vm` are there at once or not at all",
                     "use `way: queued_resource` or `way: compute_engine`"),
        "max_minutes": (target.max_minutes is not None and not flex and way == "queued_resource",
                        "only machines of `capacity: flex_start` are taken away after a time",
                        "use `limits.minutes`, which ends the processes"),
        "valid_until": (target.valid_until is not None and not flex and way == "compute_engine",
                        "only a request with `capacity: flex_start` waits", "leave it out"),
        "reservation": (target.reservation is not None and not reserved and way == "compute_engine",
                        f"`capacity: {target.capacity}` takes no machines from a reservation",
                        "add `capacity: reserved`"),
    }  # fmt: skip
    for name, (wrong, why, step) in idle.items():
        if wrong:
            path = f"target.{name}"
            yield finding("J311", f"`{path}` has no effect: {why}", place=spec.place(path), next_step=step)


def deploy(spec: ResolvedSpec, launcher: Launcher) -> Deployment:
    """Make the slice, copy the job's files and a script to all of it, have the script start; then ask it."""
    target, slices = target_of(spec), machines(spec)
    files = files_of(spec, target.exclude)
    gone = () if target.keep or target.existing else slices.remove(spec)
    return Deployment(
        nodes=(
            NodeGroup(
                first=0,
                count=spec.job.nodes.count,
                processes=spec.job.processes_per_node,
                commands=tuple(
                    msgspec.structs.replace(command, output="elsewhere") for command in worker_commands(spec, launcher)
                ),
            ),
        ),
        submit=(
            WriteFile(path=(Ref("run_dir"), "/spec.json"), content=(Ref("spec"),), mode=0o600),
            PackFiles(path=(Ref("run_dir"), "/send/files.tar.gz"), files=files),
            WriteFile(path=(Ref("run_dir"), "/send/worker.sh"), content=worker_script(spec, launcher), mode=0o700),
            *_scripts(spec, slices),
            *(() if target.existing else slices.make(spec)),
            _answering(spec, slices),
            run(*slices.copied(spec, (Ref("run_dir"), "/send"), _THERE)),
            *_secrets(spec, slices),
            run(*slices.everywhere(spec, joined(_SCRIPT, "start"))),
        ),
        status=(_asking(spec, None),),
        logs=(run(*slices.everywhere(spec, joined(_SCRIPT, "logs"))),),
        follow=(run(*slices.everywhere(spec, joined(_SCRIPT, "follow"))),),
        wait=(_asking(spec, 30), *gone),
        stop=(run("bash", (Ref("run_dir"), "/stop.sh")), *gone),
        preflight=(RunCommand(command=Command(argv=slices.gate(spec), output="tagged", title="gcloud")),),
        inputs=hashes(spec, files),
    )


def _answering(spec: ResolvedSpec, slices: Machines) -> Report:
    """Machines that are there take a while until they let anybody in. The run's folder is made then."""
    said = joined("mkdir -p ", _THERE, " && echo jobc-ready")
    pattern = rf"\A(?:[\s\S]*?^jobc-(?=ready$)){{{spec.job.nodes.count}}}(?P<word>ready)$"
    command = Command(argv=slices.everywhere(spec, said), title="gcloud")
    return Report(command=command, pattern=pattern, states={"ready": "succeeded"}, every=15)


def _asking(spec: ResolvedSpec, every: float | None) -> Report:
    """Asks the cloud for the slice, and its machines while it is there.

    A machine that failed speaks for all, then one that was stopped, then one that runs; all have to have succeeded.
    """
    ahead = "|".join(
        rf"[\s\S]*^jobc-worker (?={words}\b)" for words in ("(?:failed|lost)", "stopped", "running")
    )  # fmt: skip
    all_of_them = rf"(?:[\s\S]*?^jobc-worker (?=succeeded\b)){{{spec.job.nodes.count}}}"
    pattern = rf"\A(?:{ahead}|{all_of_them}|[\s\S]*^jobc-slice (?!READY|RUNNING))(?P<word>\w+)(?: (?P<code>\d+))?"
    command = Command(argv=("bash", (Ref("run_dir"), "/state.sh")), title="gcloud")
    return Report(command=command, pattern=pattern, states=_STATES, every=every)


#: Machines that were stopped and removed tell nothing any more.
_GONE = """\
if [ -e "${0%/*}/removed" ]; then
  echo "jobc-slice DELETING"
  exit
fi
"""
_NOTED = """\
 || :
touch "${0%/*}/removed"
"""


def _scripts(spec: ResolvedSpec, slices: Machines) -> tuple[WriteFile, ...]:
    """What later verbs carry out, and what the commands of this way to get machines need."""
    target, look = target_of(spec), slices.look(spec)
    asked = slices.everywhere(spec, joined(_SCRIPT, "state"))
    state = () if look is None else ("state=$(", line(look), ') || exit\necho "jobc-slice $state"\n')
    removed = not (target.keep or target.existing)
    why = "# Machines that cannot be reached are removed all the same.\n" if removed else ""
    ended = line(slices.everywhere(spec, joined(_SCRIPT, "stop")))
    return (
        *slices.scripts(spec),
        WriteFile(
            path=(Ref("run_dir"), "/state.sh"), content=joined(_GONE if removed else "", *state, line(asked), "\n")
        ),
        WriteFile(path=(Ref("run_dir"), "/stop.sh"), content=joined(why, ended, _NOTED if removed else "\n")),
    )


_HAND_OVER = """\
# Writes variables of this environment to a file, has a command copy it, and removes it: FILE NAMES COMMAND.
umask 077
trap 'rm -f -- "$1"' EXIT
for name in $2; do printf 'export %s=%q\\n' "$name" "${!name}"; done >"$1"
"${@:3}"
"""


def _secrets(spec: ResolvedSpec, slices: Machines) -> tuple[Step, ...]:
    """Secrets go as a file that only its owner reads, and which is gone here at once and there when it was read."""
    if not spec.job.secrets:
        return ()
    file: Text = (Ref("run_dir"), "/secrets.sh")
    copied = slices.copied(spec, file, joined(_THERE, "/send/secrets.sh"))
    script: Text = (Ref("run_dir"), "/hand_over.sh")
    return (
        WriteFile(path=script, content=_HAND_OVER),
        run("bash", script, file, " ".join(spec.job.secrets), *copied),
    )
