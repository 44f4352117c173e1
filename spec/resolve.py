"""From a job file and overrides to the resolved spec: read, compose, interpolate, validate, derive, decode.

Each stage is a function of the one before. After this module nothing reads a default or the environment.
"""

from __future__ import annotations

import os
import posixpath
import re
from collections.abc import Callable
from collections.abc import Mapping as MappingType
from pathlib import Path

import msgspec

from . import shape
from .findings import Finding, FindingsError, Place, finding
from .model import Job
from .reading import read_document
from .resolved import Beaten, ResolvedSpec
from .sources import Sources
from .tree import (
    Entry,
    Mapping,
    Node,
    Origin,
    Scalar,
    Sequence,
    dotted,
    find,
    leaves,
    plain,
    put,
)
from .tree import (
    Path as TreePath,
)

_TEXTS = ("args", "env", "command")  # settings whose scalars keep the text they were written as


def resolve(
    path: Path,
    overrides: tuple[str, ...] = (),
    *,
    env: MappingType[str, str],
    cwd: Path,
    count_gpus: Callable[[], int],
) -> ResolvedSpec:
    """The resolved spec of a job file with overrides.

    Args:
        path: the job file, as the user wrote it.
        overrides: words of Hydra's override grammar, in their order.
        env: the environment that `${oc.env:...}` reads.
        cwd: the folder that paths in overrides and `path` itself are relative to.
        count_gpus: counts the GPUs of this machine; called only for `hardware.per_node: all`.

    Raises:
        FindingsError: everything that is wrong with the document and the overrides, at once.
    """
    sources = Sources()
    document, findings = read_document(cwd / path, str(path), sources)
    parsed = []
    if overrides:
        from .overrides import parse_overrides

        parsed, problems = parse_overrides(overrides, sources)
        findings += problems
    from .compose import compose

    composed = compose(document, parsed, sources)
    findings += composed.findings
    root, problems = _interpolated(shape.normal(composed.root), env, sources)
    findings += problems
    from .validate import validate

    findings += validate(root, sources)
    if any(finding.severity == "error" for finding in findings):
        raise FindingsError(tuple(findings))
    project_dir = (cwd / path).resolve().parent
    return _finish(root, composed.beaten, composed.dropped, _Facts(sources, project_dir, cwd, count_gpus))


class _Facts(msgspec.Struct, frozen=True):
    """What deriving values may look at, beside the document."""

    sources: Sources
    project_dir: Path
    cwd: Path
    count_gpus: Callable[[], int]


def _interpolated(root: Mapping, env: MappingType[str, str], sources: Sources) -> tuple[Mapping, list[Finding]]:
    if not any(
        isinstance(node, Scalar) and isinstance(node.value, str) and "$" in node.value for _, node in leaves(root)
    ):
        return _as_text(root), []
    from .interpolate import interpolate

    done = interpolate(root, env, sources)
    return _as_text(shape.normal(done.root)), list(done.findings)


def _as_text(root: Mapping) -> Mapping:
    """Arguments and variables as the text they were written as: `1e-4` stays `1e-4`, `no` stays `no`."""

    def text(node: Node) -> Node:
        match node:
            case Scalar():
                return Scalar(node.text, node.text, node.origin)
            case Sequence():
                return Sequence(
                    tuple(text(item) if isinstance(item, Scalar) else item for item in node.items),
                    node.origin,
                )
            case Mapping():
                entries = (
                    Entry(
                        entry.key,
                        entry.origin,
                        text(entry.value) if isinstance(entry.value, Scalar) else entry.value,
                    )
                    for entry in node.entries
                )
                return Mapping(tuple(entries), node.origin)

    for key in _TEXTS:
        entry = root.entry(key)
        if entry is not None and not isinstance(entry.value, Scalar):
            root = root.put(Entry(key, entry.origin, text(entry.value)))
    return root


def _finish(root: Mapping, beaten: tuple[Beaten, ...], dropped: tuple[Beaten, ...], facts: _Facts) -> ResolvedSpec:
    findings: list[Finding] = []
    root = _derive(root, facts, findings)
    if any(finding.severity == "error" for finding in findings):
        raise FindingsError(tuple(findings))
    job = msgspec.convert(plain(root), Job)
    origins = {dotted(path): node.origin for path, node in leaves(root) if node.origin.layer != "default"}
    if dropped:
        findings.append(_dropped_hint(dropped))
    return ResolvedSpec(
        job=job,
        origins=origins,
        beaten=beaten,
        dropped=dropped,
        findings=tuple(findings),
        project_dir=str(facts.project_dir),
        places=_places(root, facts.sources),
    )


def _places(root: Mapping, sources: Sources) -> dict[str, Place]:
    """The place of every value and block that a person wrote."""
    found: dict[str, Place] = {}

    def visit(node: Node, path: TreePath) -> None:
        if node.origin.explicit:
            found[dotted(path)] = sources.place(node.origin)
        match node:
            case Mapping():
                for entry in node.entries:
                    visit(entry.value, (*path, entry.key))
            case Sequence():
                for index, item in enumerate(node.items):
                    visit(item, (*path, index))
            case Scalar():
                pass

    visit(root, ())
    return found


def _dropped_hint(dropped: tuple[Beaten, ...]) -> Finding:
    names = ", ".join(f"`{item.path}: {_word(item.value)}` ({item.origin})" for item in dropped)
    return finding("J309", f"choosing another kind dropped {names}")


def _word(value: object) -> str:
    return msgspec.json.encode(value).decode() if not isinstance(value, str) else value


# --- derived values -------------------------------------------------------------------------------------------------


def _derive(root: Mapping, facts: _Facts, findings: list[Finding]) -> Mapping:
    """Values that the document left open, each derived from others, in the order they depend on each other."""
    root = _count_devices(root, facts, findings)
    processes = _number(root, ("hardware", "per_node")) * _number(root, ("nodes", "count"))
    several = _number(root, ("hardware", "per_node")) > 1
    if several and _value(root, ("hardware", "threads_per_process")) is None:
        root = _set(root, ("hardware", "threads_per_process"), 1, "hardware.per_node")
    if _value(root, ("launcher",)) == "auto":
        root = _set(root, ("launcher",), "torchrun" if processes > 1 else "python", "the number of processes")
    if root.get("paradigm") is None:
        root = _set(root, ("paradigm", "kind"), "ddp" if processes > 1 else "none", "the number of processes")
    root = shape.normal(root)
    for key in ("script", "workdir"):
        root = _relative(root, key, facts)
    if root.get("name") is None:
        root = _name(root)
    return root


def _count_devices(root: Mapping, facts: _Facts, findings: list[Finding]) -> Mapping:
    path = ("hardware", "per_node")
    if _value(root, path) != "all":
        return root
    count = facts.count_gpus()
    if count > 0:
        return put_scalar(root, path, count, Origin(layer="detected", name="on this machine"))
    node = find(root, path)
    cause = "`hardware.per_node: all` counts the GPUs of this machine, and it has none"
    findings.append(facts.sources.finding("J310", node.origin if node is not None else None, cause, "write a number"))
    return put_scalar(root, path, 1, Origin(layer="detected"))


def _relative(root: Mapping, key: str, facts: _Facts) -> Mapping:
    """A path relative to the job's folder, so that the plan reads the same on every machine."""
    node = root.get(key)
    if not isinstance(node, Scalar) or not isinstance(node.value, str):
        return root
    text = node.value
    if not Path(text).is_absolute():
        if node.origin.layer == "override" or node.origin.source.startswith("override "):
            text = os.path.relpath(facts.cwd / text, facts.project_dir)
        text = posixpath.normpath(text.replace(os.sep, "/"))
    return root.put(Entry(key, node.origin, Scalar(text, text, node.origin)))


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
