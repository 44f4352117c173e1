"""Values that the document left open, each derived from others once everything that was written is known."""

from __future__ import annotations

import math
import os
import posixpath
import re
from collections.abc import Callable
from pathlib import Path

import msgspec

from . import shape
from .findings import Finding, Place, did_you_mean, finding
from .sources import Sources
from .tree import Mapping, Origin, Scalar, Sequence, find, put
from .tree import Path as TreePath


class Facts(msgspec.Struct, frozen=True):
    """What deriving values may look at, beside the document."""

    sources: Sources
    project_dir: Path
    cwd: Path
    count_gpus: Callable[[], int]


def derive(root: Mapping, facts: Facts, findings: list[Finding]) -> Mapping:
    """The document with the values that it left open, in the order they depend on each other. Twice changes nothing."""
    root = _hosts(root, facts, findings)
    root = _hostfile(root, facts, findings)
    root = _count_devices(root, facts, findings)
    root = _slice(root, facts, findings)
    processes = _number(root, ("hardware", "per_node")) * _number(root, ("nodes", "count"))
    several = _number(root, ("hardware", "per_node")) > 1
    if several and _value(root, ("hardware", "threads_per_process")) is None:
        root = _set(root, ("hardware", "threads_per_process"), 1, "hardware.per_node")
    if _value(root, ("launcher",)) == "auto":
        root = _set(root, ("launcher",), *_launcher(root, processes))
    if root.get("paradigm") is None:
        root = _set(root, ("paradigm", "kind"), "ddp" if processes > 1 else "none", "the number of processes")
    root = _groups(shape.normal(root))
    root = _batches(root, processes)
    return _name(root) if root.get("name") is None else root


def is_open(root: Mapping, path: TreePath) -> bool:
    """Whether a path is one that `derive` fills in."""
    if path == _REPLICATE:
        return _is_hybrid(root) and _value(root, path) is None
    if path[:1] == ("paradigm",):
        return root.get("paradigm") is None
    if path == ("launcher",):
        return _value(root, path) == "auto"
    if path == ("hardware", "per_node"):
        return _value(root, path) in ("all", None)
    if path in (_ACCUMULATION, _MICRO_BATCH):
        return _derived_batch(root) == path
    return path in _OPEN and _value(root, path) is None


_OPEN = (
    ("name",),
    ("hardware", "threads_per_process"),
    ("nodes", "rendezvous", "address"),
    ("target", "hosts"),
)


#: What `derive` looks at. These cannot depend on what it derives.
INPUTS: frozenset[TreePath] = frozenset(
    {
        ("hardware", "per_node"),
        ("hardware", "ids"),
        ("hardware", "type"),
        ("hardware", "runtime"),
        ("nodes", "count"),
        ("training", "global_batch"),
        ("paradigm", "hostfile"),
        ("paradigm", "include"),
        ("paradigm", "exclude"),
        ("paradigm", "multinode_launcher"),
        ("script",),
        ("module",),
        ("command", 0),
    }
)


#: Settings that are paths of this machine.
_PATHS: tuple[TreePath, ...] = (
    ("script",),
    ("workdir",),
    ("training", "checkpoint", "folder"),
    ("logging", "folder"),
    ("target", "hosts_file"),
    ("target", "config"),
    ("target", "kubeconfig"),
    ("paradigm", "config_file"),
    ("paradigm", "hostfile"),
)


def relative_paths(root: Mapping, facts: Facts) -> Mapping:
    """The document with its paths relative to the job's folder, so that the plan reads the same on every machine."""
    for path in _PATHS:
        root = _relative(root, path, facts)
    return _from_anywhere(root, ("training", "checkpoint", "folder"), facts)


def _from_anywhere(root: Mapping, path: TreePath, facts: Facts) -> Mapping:
    """A folder by its whole path, where processes start in a `workdir` that does not say where the job's folder is."""
    workdir, text, node = _value(root, ("workdir",)), _value(root, path), find(root, path)
    here = _value(root, ("target", "kind")) == "local" and isinstance(workdir, str) and Path(workdir).is_absolute()
    if not here or node is None or not isinstance(text, str):
        return root
    return put_scalar(root, path, (facts.project_dir / text).as_posix(), node.origin)


def _hosts(root: Mapping, facts: Facts, findings: list[Finding]) -> Mapping:
    """The machines of a hosts file, as many nodes as there are machines, and where they meet."""
    named = find(root, ("target", "hosts_file"))
    hosts = find(root, ("target", "hosts"))
    if not isinstance(hosts, Sequence) and isinstance(named, Scalar) and isinstance(named.value, str):
        hosts = _read_hosts(named, facts, findings)
        if hosts is not None:
            put_ = put(root, ("target", "hosts"), hosts, hosts.origin)
            assert isinstance(put_, Mapping)  # noqa: S101 - the path is not empty
            root = put_
    if not isinstance(hosts, Sequence) or not hosts.items:
        return root
    count = find(root, ("nodes", "count"))
    if count is None or count.origin.layer == "default":
        root = _set(root, ("nodes", "count"), len(hosts.items), "target.hosts")
    first = hosts.items[0]
    several, meet = _number(root, ("nodes", "count")) > 1, ("nodes", "rendezvous", "address")
    if several and _value(root, meet) is None and isinstance(first, Scalar):
        root = _set(root, meet, str(first.value).rpartition("@")[2], "target.hosts")
    return root


def _hostfile(root: Mapping, facts: Facts, findings: list[Finding]) -> Mapping:
    """The machines of DeepSpeed's hostfile that are chosen, the processes of each, and where they meet."""
    named, kind = find(root, ("paradigm", "hostfile")), _value(root, ("paradigm", "kind"))
    if kind != "deepspeed" or not isinstance(named, Scalar) or not isinstance(named.value, str):
        return root
    from .hostfiles import HostfileError, chosen, read

    include, exclude = (find(root, ("paradigm", field)) for field in ("include", "exclude"))
    words = [str(node.value) if isinstance(node, Scalar) and node.value else None for node in (include, exclude)]
    step = "write one machine a line, `node1 slots=8`"
    try:
        machines = read((facts.project_dir / named.value).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is no text"
        cause = f"the hostfile `{named.value}` cannot be read: {why}"
        findings.append(facts.sources.finding("J302", named.origin, cause, f"it is looked up from {facts.project_dir}"))
        return root
    except HostfileError as error:
        place = Place(source=named.value, line=error.line, column=1, excerpt=error.excerpt) if error.line else None
        cause = error.cause if error.line else f"the hostfile `{named.value}` cannot be used: {error.cause}"
        findings.append(finding("J356", cause, place=place or facts.sources.place(named.origin), next_step=step))
        return root
    try:
        machines = chosen(machines, *words)
    except HostfileError as error:
        field, node = ("include", include) if words[0] else ("exclude", exclude)
        cause = f"`paradigm.{field}` cannot be used: {error.cause}"
        findings.append(facts.sources.finding("J356", node.origin if node is not None else None, cause))
        return root
    root = _defaulted(root, ("nodes", "count"), len(machines), "paradigm.hostfile")
    root = _defaulted(root, ("hardware", "per_node"), min(len(item.slots) for item in machines), "paradigm.hostfile")
    if len(machines) > 1 and _value(root, meet := ("nodes", "rendezvous", "address")) is None:
        root = _set(root, meet, machines[0].name.rpartition("@")[2], "paradigm.hostfile")
    return root


def _defaulted(root: Mapping, path: TreePath, value: int, source: str) -> Mapping:
    """The document with a number that nobody wrote."""
    node = find(root, path)
    return _set(root, path, value, source) if node is None or node.origin.layer == "default" else root


def _launcher(root: Mapping, processes: int) -> tuple[str, str]:
    """What starts the processes where the document leaves it open, and what that follows from."""
    if _value(root, ("target", "kind")) == "inherit":
        return "python", "the target"
    if _value(root, ("hardware", "kind")) == "tpu":
        return "xla", "hardware"
    if _value(root, ("target", "kind")) == "tpu_pod":
        return "xla", "the target"
    if (_value(root, ("paradigm", "multinode_launcher")) or "standard") != "standard":
        return "deepspeed", "paradigm.multinode_launcher"
    return ("torchrun" if processes > 1 else "python"), "the number of processes"


_HOST = re.compile(r"([A-Za-z0-9._-]+@)?[A-Za-z0-9_\[][A-Za-z0-9._:\]-]*\Z")


def _read_hosts(named: Scalar, facts: Facts, findings: list[Finding]) -> Sequence | None:
    path = facts.project_dir / str(named.value)
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is no text"
        cause = f"the hosts file `{named.value}` cannot be read: {why}"
        findings.append(facts.sources.finding("J302", named.origin, cause, f"it is looked up from {facts.project_dir}"))
        return None
    origin = Origin(layer="derived", name="from target.hosts_file")
    names: list[str] = []
    for number, line in enumerate(lines, 1):
        word = line.partition("#")[0].strip()
        if word and not _HOST.match(word):
            place = Place(source=str(named.value), line=number, column=1, excerpt=line)
            findings.append(
                finding("J106", f"`{word}` is not a machine such as `node1` or `user@10.0.0.1`", place=place)
            )
        elif word:
            names.append(word)
    if not names:
        cause = f"the hosts file `{named.value}` names no machine"
        findings.append(facts.sources.finding("J302", named.origin, cause, "write one a line"))
        return None
    return Sequence(tuple(Scalar(name, name, origin) for name in names), origin)


def _count_devices(root: Mapping, facts: Facts, findings: list[Finding]) -> Mapping:
    path = ("hardware", "per_node")
    ids, node = find(root, ("hardware", "ids")), find(root, path)
    if isinstance(ids, Sequence) and (node is None or node.origin.layer == "default" or _value(root, path) == "all"):
        return _set(root, path, len(ids.items), "hardware.ids")
    if _value(root, path) != "all":
        return root
    count = facts.count_gpus()
    if count > 0:
        return put_scalar(root, path, count, Origin(layer="detected", name="on this machine"))
    cause = "`hardware.per_node: all` counts the GPUs of this machine, and it has none"
    findings.append(facts.sources.finding("J310", node.origin if node is not None else None, cause, "write a number"))
    return put_scalar(root, path, 1, Origin(layer="detected"))


def _slice(root: Mapping, facts: Facts, findings: list[Finding]) -> Mapping:
    """The machines of a type of TPU, and the processes of each."""
    if _value(root, ("hardware", "kind")) != "tpu":
        return root
    per_node, node = 1, find(root, ("hardware", "type"))
    if isinstance(node, Scalar) and isinstance(node.value, str):
        from .catalogue import tpus

        found = tpus().named(node.value)
        if found is None:
            cause = f"`{node.value}` is no type of TPU"
            step = did_you_mean(node.value, tpus().names()) or "write one such as `v6e-16`"
            findings.append(facts.sources.finding("J105", node.origin, cause, step))
            return _set(root, ("hardware", "per_node"), 1, "hardware.type")
        generation, number = found
        per_node = generation.per_host(number)
        root = _defaulted(root, ("nodes", "count"), generation.hosts(number), "hardware.type")
    if _value(root, ("hardware", "per_node")) is None:
        spmd = _value(root, ("hardware", "runtime")) == "spmd"
        source = "hardware.runtime" if spmd else "hardware.type"
        root = _set(root, ("hardware", "per_node"), 1 if spmd else per_node, source)
    return root


_REPLICATE = ("paradigm", "replicate")


def _groups(root: Mapping) -> Mapping:
    """Each node has a group that holds the whole model, where pieces are spread over groups and nobody says which."""
    if not _is_hybrid(root) or _value(root, _REPLICATE) is not None or _number(root, ("nodes", "count")) == 1:
        return root
    return _set(root, _REPLICATE, _number(root, ("nodes", "count")), "nodes")


def _is_hybrid(root: Mapping) -> bool:
    return _value(root, ("paradigm", "sharding")) == "hybrid"


_ACCUMULATION, _MICRO_BATCH = ("training", "gradient_accumulation"), ("training", "micro_batch")


def _batches(root: Mapping, processes: int) -> Mapping:
    """What one of the two says beside the other and the samples of a step, where it divides."""
    path = _derived_batch(root)
    if path is None:
        return root
    copies = processes // math.prod(_number(root, ("paradigm", f"{name}_degree")) for name in ("tp", "pp", "cp"))
    other = _number(root, _MICRO_BATCH if path == _ACCUMULATION else _ACCUMULATION)
    samples = _number(root, ("training", "global_batch"))
    if copies < 1 or other < 1 or samples % (copies * other):
        return root
    return _set(root, path, samples // (copies * other), "training.global_batch")


def _derived_batch(root: Mapping) -> TreePath | None:
    """Which of the two follows from `training.global_batch`: the one that nobody wrote, if somebody wrote the other."""
    if _value(root, ("training", "global_batch")) is None:
        return None
    unwritten = [path for path in (_MICRO_BATCH, _ACCUMULATION) if not _written(root, path)]
    return unwritten[0] if len(unwritten) == 1 else None


def _written(root: Mapping, path: TreePath) -> bool:
    node = find(root, path)
    return node is not None and node.origin.layer not in ("default", "derived")


def _relative(root: Mapping, path: TreePath, facts: Facts) -> Mapping:
    node = find(root, path)
    if not isinstance(node, Scalar) or not isinstance(node.value, str):
        return root
    text = node.value
    if not Path(text).is_absolute():
        if node.origin.layer == "override" or node.origin.source.startswith("override "):
            text = os.path.relpath(facts.cwd / text, facts.project_dir)
        text = posixpath.normpath(text.replace(os.sep, "/"))
    return put_scalar(root, path, text, node.origin)


def _name(root: Mapping) -> Mapping:
    """The job's name, from what it runs."""
    for key in ("script", "module", "command"):
        node = root.get(key)
        if isinstance(node, Sequence) and node.items:
            node = node.items[0]
        if isinstance(node, Scalar) and isinstance(node.value, str):
            words = posixpath.basename(node.value)
            stem = words.rpartition(".")[2] if key == "module" else posixpath.splitext(words)[0]
            name = re.sub(r"[^A-Za-z0-9._-]+", "-", stem).strip("-._")[:63]
            return _set(root, ("name",), name or "job", key)
    return _set(root, ("name",), "job", "nothing to run")


def _value(root: Mapping, path: TreePath) -> object:
    node = find(root, path)
    return node.value if isinstance(node, Scalar) else None


def _number(root: Mapping, path: TreePath) -> int:
    value = _value(root, path)
    return value if isinstance(value, int) else 1


def _set(root: Mapping, path: TreePath, value: str | int, source: str) -> Mapping:
    return put_scalar(root, path, value, Origin(layer="derived", name=f"from {source}"))


def put_scalar(root: Mapping, path: TreePath, value: str | int, origin: Origin) -> Mapping:
    """The document with a scalar at a path."""
    done = put(root, path, Scalar(value, str(value), origin), origin)
    assert isinstance(done, Mapping)  # noqa: S101 - the path is not empty
    return done
