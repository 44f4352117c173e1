"""Findings about what machines said of themselves: whether they are fit for a job, and for each other."""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from ..compiler.plan import LaunchPlan
from ..spec.findings import Finding, Place, finding
from ..spec.model import Job
from ..spec.resolved import ResolvedSpec
from .preflight import Report, Said

_CLOCK = 5.0  # seconds that clocks may differ
_SPARE = 2**30  # bytes that are to be left beside the job's files
_NAMED = 8  # machines that are named before they are counted
_TOO_LONG = (None, 124, 137)  # exit codes of what was ended for its time

Where = Callable[[str], Place | None]


def unfit(plan: LaunchPlan, spec: ResolvedSpec, reports: tuple[Report, ...]) -> tuple[Finding, ...]:
    """Everything that speaks against running the job on these machines."""
    job, where = spec.job, spec.place
    answered = [(report.host, report.said) for report in reports if report.said is not None]
    sent = sum((Path(spec.project_dir) / name).stat().st_size for name in plan.inputs)
    found = [item for report in reports for item in _answer(job, where, report)]
    for host, said in answered:
        found += _devices(job, where, host, said)
        found += _disk(host, said, sent)
        found += _address(job, where, host, said)
    found += _port(job, where, answered)
    found += _clocks(where, reports)
    return (*found, *_versions(job, where, answered))


def _answer(job: Job, where: Where, report: Report) -> Iterator[Finding]:
    """Why a machine said nothing, and which programs it lacks."""
    host, words = report.host, "\n".join(report.words)
    if report.gate:
        if report.code != 0:
            why = "it did not answer in time" if report.code is None else words or f"exit code {report.code}"
            step = "change what it names; `jobc plan` shows what it is asked"
            yield finding("J431", f"`{host}` would not take the job: {why}", place=where("target"), next_step=step)
        return
    if not report.here:
        why = "it did not answer in time" if report.code is None else words or f"exit code {report.code}"
        step = f"`ssh {host} true` has to work from here without a question: check its name, address and key"
        yield finding("J420", f"{host} cannot be reached: {why}", place=where("target"), next_step=step)
        return
    for name in dict.fromkeys(report.without):
        if report.empty and "/" in name and not posixpath.isabs(name):
            yield _untried(where, host, f"`{name}`")
        else:
            field = (
                "python" if name == job.python else "command" if job.command and name == job.command[0] else "target"
            )
            step = "install it there" + (", or name another in `python`" if name == (job.python or "python3") else "")
            yield finding("J421", f"{host} has no `{name}`", place=where(field), next_step=step)
    if report.said is not None or (report.ready and report.without):
        return
    late = report.code in _TOO_LONG
    how = "took too long" if late else f"failed with exit code {report.code}" + (f": {words}" if words else "")
    if report.ready:
        step = f"try it there: ssh {host} {job.python or 'python3'} --version"
        yield finding("J421", f"Python on {host} {how}", place=where("python"), next_step=step)
    elif report.empty and not late:
        yield _untried(where, host, "`setup`", words)
    else:
        step = "run these lines there by hand; each has to end well"
        yield finding("J428", f"`setup` on {host} {how}", place=where("setup"), next_step=step)


def _untried(where: Where, host: str, what: str, words: str = "") -> Finding:
    cause = f"{what} cannot be tried on {host}: the job's files are not there yet" + (f" ({words})" if words else "")
    step = "`jobc run` copies them; this machine can be asked again after a run"
    return finding("J430", cause, place=where("setup") or where("python"), next_step=step)


def _devices(job: Job, where: Where, host: str, said: Said) -> Iterator[Finding]:
    if said.gpus is None or said.gpus >= job.processes_per_node:
        return
    field = "hardware.ids" if where("hardware.ids") is not None else "hardware.per_node"
    cause = f"the job asks for {job.processes_per_node} GPUs on each machine, and {host} has {said.gpus}"
    step = "write fewer, or choose another machine"
    if said.listed_gpus and said.listed_gpus > said.gpus and said.torch is not None:
        cause += f" that torch {said.torch} can use, of {said.listed_gpus} that nvidia-smi lists"
        step = "install a torch for the driver there; `hardware.ids` and CUDA_VISIBLE_DEVICES hide GPUs too"
    yield finding("J424", cause, place=where(field) or where("hardware"), next_step=step)


def _disk(host: str, said: Said, sent: int) -> Iterator[Finding]:
    if said.write_fault is not None:
        cause = f"{host} cannot write where the job's files go: {said.write_fault}"
        yield finding("J427", cause, next_step="make room or give the permission there, or name another folder")
    elif said.disk < sent + _SPARE:
        cause = f"{host} has {amount(said.disk)} of disk left, and the job needs {amount(sent + _SPARE)}"
        yield finding("J427", cause, next_step="make room there, or leave files out with `target.exclude`")


def _address(job: Job, where: Where, host: str, said: Said) -> Iterator[Finding]:
    if said.lookup_fault is not None:
        name = job.nodes.rendezvous.address
        cause = f"{host} cannot look up `{name}`, where the processes meet: {said.lookup_fault}"
        step = "set `nodes.rendezvous.address` to a name or address that every machine knows"
        place = where("nodes.rendezvous.address") or where("target")
        yield finding("J429", cause, place=place, next_step=step)


def _port(job: Job, where: Where, answered: list[tuple[str, Said]]) -> Iterator[Finding]:
    """The port counts on the machine whose address is the meeting place; the first one, where none says it is."""
    meeting = [(host, said) for host, said in answered if said.mine] or answered
    for host, said in meeting[:1]:
        if said.port_fault is not None:
            cause = f"port {job.nodes.rendezvous.port}, where the processes meet, cannot be used on {host}: "
            step = "end what uses it there, or choose another port"
            place = where("nodes.rendezvous.port")
            yield finding("J425", cause + said.port_fault, place=place, next_step=step)


def _clocks(where: Where, reports: tuple[Report, ...]) -> Iterator[Finding]:
    for report in reports:
        if report.clock is not None and abs(report.clock) > _CLOCK:
            ahead = "ahead of" if report.clock > 0 else "behind"
            cause = f"the clock of {report.host} is {abs(report.clock):.0f} s {ahead} the one here"
            yield finding("J426", cause, place=where("target"), next_step="let chrony or ntpd set it on both machines")


def _versions(job: Job, where: Where, answered: list[tuple[str, Said]]) -> Iterator[Finding]:
    """Machines that do not have the same Python and torch; what is done by torchrun needs a torch."""
    torches = _by((said.torch or "no torch", host) for host, said in answered)
    pythons = _by((said.python, host) for host, said in answered)
    lacking = torches.get("no torch", [])
    step = "use one environment on all machines; `python` and `setup` say which"
    place = where("python") or where("setup")
    if lacking and job.launcher == "torchrun":
        cause = f"torch is not installed for Python on {named(lacking)}, and torchrun is a part of it"
        yield finding("J421", cause, place=place, next_step="install it there, or name an interpreter that has it")
    elif len({_minor(version) for version in torches}) > 1:
        yield finding("J422", f"torch is not the same everywhere: {_spread(torches)}", place=place, next_step=step)
    elif len(torches) > 1:
        yield finding("J423", f"torch is not the same everywhere: {_spread(torches)}", place=place, next_step=step)
    if len(pythons) > 1:
        yield finding("J423", f"Python is not the same everywhere: {_spread(pythons)}", place=place, next_step=step)


def _by(pairs: Iterable[tuple[str, str]]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for version, host in pairs:
        found.setdefault(version, []).append(host)
    return found


def _minor(version: str) -> str:
    return ".".join(version.split(".")[:2])


def _spread(versions: dict[str, list[str]]) -> str:
    return "; ".join(f"{version} on {named(hosts)}" for version, hosts in versions.items())


def named(hosts: list[str]) -> str:
    """Machines by name, the first ones of many."""
    rest = len(hosts) - _NAMED
    return ", ".join(hosts[:_NAMED]) + (f" and {rest} more" if rest > 0 else "")


def amount(size: float) -> str:
    """Bytes in the unit that fits: `512 MiB`."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < 1024:
            return f"{size:.0f} {unit}"
        size /= 1024
    return f"{size:.1f} TiB"
