"""From a job file and overrides to the resolved spec: read, compose, interpolate, validate, derive, decode.

Each stage is a function of the one before. After this module nothing reads a default or the environment.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from collections.abc import Mapping as MappingType
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from . import shape
from .decoding import job_of
from .derive import Facts, derive, relative_paths
from .findings import Finding, FindingsError, Place, finding
from .groups import Document, Library
from .plugins import learn, plugin
from .resolved import Beaten, ResolvedSpec
from .sources import Sources
from .tree import Entry, Mapping, Node, Scalar, Sequence, dotted, find, leaves, plain, put
from .tree import Path as TreePath
from .untyped import as_dict

if TYPE_CHECKING:
    from .defaults import Item
    from .overrides import Choices, Override

_TEXTS: tuple[TreePath, ...] = (
    ("args",),
    ("env",),
    ("command",),
    ("setup",),
    ("launcher_args",),
    ("nodes", "rendezvous", "conf"),
    ("target", "node_selector"),
    ("target", "tags"),
)  # settings whose scalars keep the text they were written as
_VERSIONS: tuple[TreePath, ...] = (("target", "torch"),)  # the same for a single value: 2.10 is no number


class Variant(msgspec.Struct, frozen=True, kw_only=True):
    """One job of a sweep: its overrides, and its spec or what is wrong with it."""

    overrides: tuple[str, ...]
    spec: ResolvedSpec | None = None
    findings: tuple[Finding, ...] = ()


def resolve(
    path: Path,
    overrides: tuple[str, ...] = (),
    *,
    env: MappingType[str, str],
    cwd: Path,
    count_gpus: Callable[[], int],
    config_dirs: tuple[str, ...] = (),
) -> ResolvedSpec:
    """The resolved spec of a job file with overrides.

    Args:
        path: the job file, as the user wrote it.
        overrides: words of Hydra's override grammar, in their order.
        env: the environment that `${oc.env:...}` reads.
        cwd: the folder that paths in overrides, `config_dirs` and `path` itself are relative to.
        count_gpus: counts the GPUs of this machine; called only for `hardware.per_node: all`.
        config_dirs: folders that are searched for group files after the job's own.

    Raises:
        FindingsError: everything that is wrong with the document and the overrides, at once.
    """
    job = _Opened(path, env=env, cwd=cwd, count_gpus=count_gpus, config_dirs=config_dirs)
    words, problems = job.parse(overrides, sweep=False)
    return job.resolve([word[0] for word in words], problems)


def resolve_sweep(
    path: Path,
    overrides: tuple[str, ...] = (),
    *,
    env: MappingType[str, str],
    cwd: Path,
    count_gpus: Callable[[], int],
    config_dirs: tuple[str, ...] = (),
) -> tuple[Variant, ...]:
    """Every job of a sweep: the product of the values of all overrides, the last one changing fastest.

    The files are read once. What is wrong with one job is told with that job; the arguments are those of `resolve`.

    Raises:
        FindingsError: the job file cannot be read, or an override cannot be taken apart.
    """
    job = _Opened(path, env=env, cwd=cwd, count_gpus=count_gpus, config_dirs=config_dirs)
    words, problems = job.parse(overrides, sweep=True)
    problems += _too_many(words, job.sources)
    if problems:
        raise FindingsError((*job.document.findings, *problems))
    return tuple(job.variant(chosen) for chosen in product(*words))


def _too_many(words: list[Choices], sources: Sources) -> Iterator[Finding]:
    from .overrides import MOST_PLANS

    count = math.prod(len(word) for word in words)
    if count > MOST_PLANS:
        widest = max(words, key=len)
        cause = f"the sweep has more than {MOST_PLANS} plans"
        yield sources.finding("J207", widest[0].origin, cause, "sweep over fewer values at once")


class _Opened:
    """A job file that was read, and everything that resolving it needs beside its overrides."""

    def __init__(
        self,
        path: Path,
        *,
        env: MappingType[str, str],
        cwd: Path,
        count_gpus: Callable[[], int],
        config_dirs: tuple[str, ...],
    ) -> None:
        self.sources = Sources()
        self._env = env
        self._facts = Facts(self.sources, (cwd / path).resolve().parent, cwd, count_gpus)
        self._library = Library(cwd / path, str(path), config_dirs, cwd, self.sources)
        self.document = self._library.job()

    def parse(self, texts: tuple[str, ...], *, sweep: bool) -> tuple[list[Choices], list[Finding]]:
        if not texts:
            return [], []
        from .overrides import parse_overrides

        return parse_overrides(texts, self.sources, self._library.names, sweep=sweep)

    def variant(self, overrides: tuple[Override, ...]) -> Variant:
        """The job of a sweep with these overrides."""
        texts = tuple(override.text for override in overrides)
        try:
            spec = self.resolve(list(overrides), [])
        except FindingsError as error:
            return Variant(overrides=texts, findings=error.findings)
        return Variant(overrides=texts, spec=spec)

    def resolve(self, overrides: list[Override], findings: list[Finding]) -> ResolvedSpec:
        from .compose import compose

        composed = compose(self.document, overrides, self._library, self.sources, self._name)
        findings = [*self._library.findings, *findings, *composed.findings]
        root, problems = _without_missing(composed.root, self.sources)
        findings += problems
        root, problems = _interpolated(learn(shape.normal(root), self.sources), self._env, self._facts)
        findings += problems
        root = learn(root, self.sources)
        from .validate import validate

        findings += validate(root, self.sources)
        if any(finding.severity == "error" for finding in findings):
            raise FindingsError(tuple(findings))
        return _finish(root, composed.beaten, composed.dropped, self._facts)

    def _name(
        self, name: str, item: Item, made: dict[str, str], document: Document
    ) -> tuple[str | None, tuple[Finding, ...]]:
        from .interpolate import interpolate_name

        secrets = (self.document.root.get("secrets"), document.root.get("secrets"))
        return interpolate_name(Scalar(name, name, item.origin), item.number, made, secrets, self._env, self.sources)


def _without_missing(root: Mapping, sources: Sources) -> tuple[Mapping, list[Finding]]:
    """The document without values that are `???`, and a finding for each: somebody has to give them."""
    findings: list[Finding] = []
    for path, node in leaves(root):
        if isinstance(node, Scalar) and node.value == "???" and not any(isinstance(part, int) for part in path):
            name = dotted(path)
            step = f"give it on the command line, `{name}=...`, or in a document that builds on this one"
            findings.append(sources.finding("J107", node.origin, f"`{name}` must be given", step))
            root = _remove(root, path)
    return root, findings


def _remove(node: Mapping, path: TreePath) -> Mapping:
    key = str(path[0])
    entry = node.entry(key)
    if len(path) == 1 or entry is None or not isinstance(entry.value, Mapping):
        return node.without(key)
    return node.put(Entry(key, entry.origin, _remove(entry.value, path[1:])))


def _interpolated(root: Mapping, env: MappingType[str, str], facts: Facts) -> tuple[Mapping, list[Finding]]:
    if not any(
        isinstance(node, Scalar) and isinstance(node.value, str) and "$" in node.value for _, node in leaves(root)
    ):
        return _as_text(root), []
    from .interpolate import interpolate

    done = interpolate(root, env, facts.sources, facts)
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

    for path in (*_TEXTS, *_VERSIONS):
        block = find(root, path[:-1])
        entry = block.entry(str(path[-1])) if isinstance(block, Mapping) else None
        if entry is not None and isinstance(entry.value, Scalar) == (path in _VERSIONS):
            done = put(root, path, text(entry.value), entry.origin)
            assert isinstance(done, Mapping)  # noqa: S101 - the path is not empty
            root = done
    return root


def _finish(root: Mapping, beaten: tuple[Beaten, ...], dropped: tuple[Beaten, ...], facts: Facts) -> ResolvedSpec:
    findings: list[Finding] = []
    root = derive(relative_paths(root, facts), facts, findings)
    if any(finding.severity == "error" for finding in findings):
        raise FindingsError(tuple(findings))
    values = as_dict(plain(root)) or {}
    other = plugin("target", values["target"]["kind"])
    job = job_of(values, None if other is None else other.section)
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
