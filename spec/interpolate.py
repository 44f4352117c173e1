"""Resolves `${...}` with OmegaConf, and keeps track of where each result came from."""

from __future__ import annotations

import re
import threading
from collections.abc import Generator, Iterable, Iterator
from collections.abc import Mapping as MappingType
from contextlib import contextmanager
from typing import Any, NamedTuple

from .derive import INPUTS, Facts, derive, is_open
from .findings import Finding, did_you_mean
from .scalars import read_scalar
from .shape import at, job_schema, leaf, normal
from .sources import Sources
from .tree import Entry, Mapping, Node, Origin, Path, Scalar, Sequence, dotted, find, leaves, plain
from .untyped import as_dict, as_list

#: Names of variables that hold credentials, by whole words: HF_TOKEN is one, TOKENIZERS_PARALLELISM and PWD are not.
_CREDENTIAL = re.compile(
    r"(?i)(^|_)(secrets?|tokens?|passw(or)?d|passphrase|credentials?|(api|access|private|secret)_?key|auth)(_|$)"
)
_REFERENCE = re.compile(r"\$\{([^${}:]+)\}")
_MISSING = re.compile(r"Interpolation key '([^']+)' not found")
_RESOLVER = re.compile(r"\$\{\s*([A-Za-z_][\w.]*)\s*:")
_LOCK = threading.Lock()  # OmegaConf's resolvers are global; ours stands in for `oc.env` only while a job is loaded


class Interpolated(NamedTuple):
    """A document without interpolations, and findings for those that could not be resolved."""

    root: Mapping
    findings: tuple[Finding, ...]


def interpolate(
    root: Mapping, env: MappingType[str, str], sources: Sources, facts: Facts | None = None
) -> Interpolated:
    """The document with every interpolation resolved.

    A result that stands where no text may stand is read as YAML would read it, because environment variables are
    always text. A value that is a secret's, or looks like one, is a finding and never enters the document. With
    `facts`, a derived value can be referred to: it is derived first, from what does not refer to it.
    """
    wanted = {path: node for path, node in leaves(root) if isinstance(node, Scalar) and _has(node)}
    if not wanted:
        return Interpolated(root, ())
    loops = _loops(list(wanted.items()), sources)
    if loops:
        return Interpolated(_without(root, set(wanted)), loops)
    late = _late(root, wanted) if facts is not None else frozenset[Path]()
    if not late or facts is None:
        return _Resolution(root, env, sources).run(list(wanted.items()))
    inputs = {path for path in late if path in INPUTS or path[0] == "secrets"}
    findings = [_too_late(path, wanted[path], sources) for path in wanted if path in inputs]
    root = _without(root, inputs)
    early = _Resolution(root, env, sources).run([item for item in wanted.items() if item[0] not in late])
    root = derive(normal(early.root), facts, findings)
    done = _Resolution(root, env, sources).run([(path, wanted[path]) for path in wanted if path in late - inputs])
    return Interpolated(done.root, (*findings, *early.findings, *done.findings))


def _late(root: Mapping, wanted: dict[Path, Scalar]) -> frozenset[Path]:
    """The interpolated values that refer to a derived one, directly or through each other."""
    names = {dotted(path): path for path in wanted}
    late = {
        path
        for path, node in wanted.items()
        if any(is_open(root, tuple(name.split("."))) for name in _names(path, str(node.value)))
    }
    while True:
        more = {
            path
            for path, node in wanted.items()
            if path not in late and any(names[name] in late for name in _references(path, str(node.value), names))
        }
        if not more:
            return frozenset(late)
        late |= more


def _too_late(path: Path, node: Scalar, sources: Sources) -> Finding:
    when = "after the names of secrets are known" if path[0] == "secrets" else "from it"
    cause = f"`{dotted(path)}` refers to a value that jobc derives {when}"
    return sources.finding("J205", node.origin, cause, "write the value itself")


def interpolate_name(
    name: Scalar,
    number: int,
    made: dict[str, str],
    secrets: tuple[Node | None, ...],
    env: MappingType[str, str],
    sources: Sources,
) -> tuple[str | None, tuple[Finding, ...]]:
    """The name of a choice in a defaults list: `${group}` is another choice, `${oc.env:X}` a variable, no secret."""
    entries = [Entry(key, name.origin, Scalar(word, word, name.origin)) for key, word in made.items()]
    declared = tuple(item for found in secrets if isinstance(found, Sequence) for item in found.items)
    items = (*(Scalar(None, "", name.origin) for _ in range(number)), name)
    root = Mapping(
        (
            *(entry for entry in entries if entry.key not in ("secrets", "defaults")),
            Entry("secrets", name.origin, Sequence(declared, name.origin)),
            Entry("defaults", name.origin, Sequence(items, name.origin)),
        ),
        name.origin,
    )
    done = interpolate(root, env, sources)
    if done.findings:
        return None, done.findings
    resolved = find(done.root, ("defaults", number))
    return (resolved.text if isinstance(resolved, Scalar) else None), ()


def _has(node: Scalar) -> bool:
    return isinstance(node.value, str) and "${" in node.value


class _UnsetError(Exception):
    """An environment variable that is not set and has no default."""

    def __init__(self, name: str) -> None:
        super().__init__(f"the environment variable {name} is not set")
        self.name = name


class _Resolution:
    def __init__(self, root: Mapping, env: MappingType[str, str], sources: Sources) -> None:
        self._root = root
        self._env = env
        self._sources = sources
        self._read: list[str] = []
        self._findings: list[Finding] = []
        self._secrets = _declared_secrets(root)

    def run(self, wanted: list[tuple[Path, Scalar]]) -> Interpolated:
        from omegaconf import OmegaConf
        from omegaconf.errors import GrammarParseError

        document: Any = plain(self._root)
        with _LOCK, _environment(self._look_up):
            try:
                config: Any = OmegaConf.create(document)
            except GrammarParseError:
                return self._unreadable(wanted)
            results: dict[Path, Node | None] = {}
            for path, node in sorted(wanted, key=lambda item: item[0][0] != "secrets"):  # names of secrets come first
                results[path] = self._one(config, path, node)
                found = results[path]
                if path[0] == "secrets" and isinstance(found, Scalar):
                    self._secrets |= {str(found.value)}
        return Interpolated(_replace(self._root, (), results), tuple(self._findings))

    def _unreadable(self, wanted: list[tuple[Path, Scalar]]) -> Interpolated:
        """A finding for each value that does not follow the grammar, which OmegaConf reads for all of them at once."""
        from omegaconf import OmegaConf
        from omegaconf.errors import GrammarParseError

        for path, node in wanted:
            try:
                OmegaConf.create({"value": node.value})
            except GrammarParseError as error:
                self._findings.append(self._failure(error, path, node))
        return Interpolated(_without(self._root, {path for path, _ in wanted}), tuple(self._findings))

    def _look_up(self, name: Any, *default: Any) -> Any:
        name = str(name)
        self._read.append(name)
        value = self._env.get(name)
        if value is not None:
            return value
        if default:
            return default[0] if default[0] is None else str(default[0])
        raise _UnsetError(name)

    def _one(self, config: Any, path: Path, node: Scalar) -> Node | None:
        """The node that takes an interpolation's place; None after a finding."""
        from omegaconf import OmegaConf
        from omegaconf.errors import OmegaConfBaseException

        self._read.clear()
        try:
            parent = config
            for part in path[:-1]:
                parent = parent[part]
            value = parent[path[-1]]
            value = OmegaConf.to_container(value, resolve=True) if OmegaConf.is_config(value) else value
        except (OmegaConfBaseException, RecursionError, TypeError, ValueError, AttributeError) as error:
            value = error
        secret = next((name for name in self._read if name in self._secrets or _CREDENTIAL.search(name)), None)
        if secret is not None:  # first of all: the text of an error holds what was read
            cause = f"`{dotted(path)}` would copy the secret {secret} into the document, the plan and the run's record"
            step = f"list the name instead, `secrets: [{secret}]`: the process then finds it in its environment"
            self._findings.append(self._sources.finding("J206", node.origin, cause, step))
            return None
        if isinstance(value, Exception):
            self._findings.append(self._failure(value, path, node))
            return None
        return self._node(value, path, node)

    def _node(self, value: Any, path: Path, node: Scalar) -> Node:
        origin = node.origin
        if self._read:
            origin = Origin(
                layer="environment",
                source=origin.source,
                line=origin.line,
                column=origin.column,
                length=origin.length,
                name=self._read[0],
            )
        if isinstance(value, str):
            schema = at(path, self._root)
            kept = schema is None or _takes_text(leaf(schema))
            return Scalar(value if kept else read_scalar(value), value, origin)
        return _from_plain(value, origin)

    def _failure(self, error: Exception, path: Path, node: Scalar) -> Finding:
        cause: BaseException | None = error
        while cause is not None and not isinstance(cause, _UnsetError):
            cause = cause.__cause__ or cause.__context__
        if cause is not None:
            step = f"set it, or give a default: `${{oc.env:{cause.name},value}}`"
            text = f"`{dotted(path)}` reads the environment variable {cause.name}, which is not set"
            return self._sources.finding("J204", node.origin, text, step)
        resolver = _RESOLVER.search(str(node.value))
        if "Unsupported interpolation type" in str(error) and resolver is not None:
            step = "values come from `${path.of.a.value}`, variables from `${oc.env:NAME}` or `${oc.env:NAME,default}`"
            text = f"`{dotted(path)}` uses `${{{resolver[1]}:...}}`, which jobc does not have"
            return self._sources.finding("J203", node.origin, text, step)
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        missing = _MISSING.search(first)
        if missing is None:
            text = f"the interpolation in `{dotted(path)}` cannot be resolved: {first}"
            return self._sources.finding("J203", node.origin, text, "write a literal `${` as `\\${`")
        text = f"`{dotted(path)}` refers to `{missing[1]}`, which the document does not have"
        known = [dotted(here) for here, _ in leaves(self._root) if here != path] + list(job_schema()["properties"])
        level = missing[1].count(".")
        step = (
            did_you_mean(missing[1], [name for name in known if name.count(".") == level])
            or "write a literal `${` as `\\${`"
        )
        return self._sources.finding("J203", node.origin, text, step)


@contextmanager
def _environment(look_up: Any) -> Generator[None]:
    """OmegaConf with `oc.env` reading the environment that jobc was given, and put back afterwards."""
    from omegaconf import OmegaConf
    from omegaconf.resolvers import oc

    OmegaConf.register_new_resolver("oc.env", look_up, replace=True)
    try:
        yield
    finally:
        OmegaConf.register_new_resolver("oc.env", oc.env, replace=True)  # pyright: ignore[reportArgumentType]


def _declared_secrets(root: Mapping) -> frozenset[str]:
    found = root.get("secrets")
    names = found.items if isinstance(found, Sequence) else ()
    return frozenset(str(item.value) for item in names if isinstance(item, Scalar))


def _takes_text(schema: dict[str, Any]) -> bool:
    """Whether a text may stand in a place as it is."""
    if "enum" in schema:
        return True
    if schema.get("if") == {"type": "string"}:
        return False  # a number, or one word that is not a number
    kinds = schema.get("type", [])
    return "string" in ([kinds] if isinstance(kinds, str) else kinds)


def _from_plain(value: Any, origin: Origin) -> Node:
    block, items = as_dict(value), as_list(value)
    if block is not None:
        entries = (Entry(str(key), origin, _from_plain(item, origin)) for key, item in block.items())
        return Mapping(tuple(entries), origin)
    if items is not None:
        return Sequence(tuple(_from_plain(item, origin) for item in items), origin)
    if value is None or isinstance(value, str | bool | int | float):
        return Scalar(value, "" if value is None else str(value), origin)
    return Scalar(str(value), str(value), origin)


def _replace(node: Node, path: Path, results: dict[Path, Node | None]) -> Any:
    """The tree with results in place; a failed interpolation takes its key with it, so that it is named only once."""
    if path in results:
        return results[path]
    if isinstance(node, Mapping):
        pairs = [(entry, _replace(entry.value, (*path, entry.key), results)) for entry in node.entries]
        kept = tuple(Entry(entry.key, entry.origin, value) for entry, value in pairs if value is not None)
        return Mapping(kept, node.origin)
    if isinstance(node, Sequence):
        items = [_replace(item, (*path, index), results) for index, item in enumerate(node.items)]
        return Sequence(tuple(item for item in items if item is not None), node.origin)
    return node


def _without(root: Mapping, paths: set[Path]) -> Mapping:
    return _replace(root, (), dict.fromkeys(paths))


def _loops(wanted: list[tuple[Path, Scalar]], sources: Sources) -> tuple[Finding, ...]:
    """A finding for each loop of values that refer to each other."""
    nodes = {dotted(path): (path, node) for path, node in wanted}
    edges = {name: _references(path, str(node.value), nodes) for name, (path, node) in nodes.items()}
    findings: list[Finding] = []
    for loop in _cycles(edges):
        cause = f"these values refer to each other in a loop: {' -> '.join(f'`{name}`' for name in loop)}"
        findings.append(sources.finding("J205", nodes[loop[0]][1].origin, cause, "give one of them a value"))
    return tuple(findings)


def _cycles(edges: dict[str, list[str]]) -> list[list[str]]:
    """The cycles that a depth-first walk meets, each ending with the name it starts with."""
    found: list[list[str]] = []
    done: set[str] = set()

    def walk(name: str, trail: list[str]) -> None:
        if name in trail:
            found.append([*trail[trail.index(name) :], name])
        elif name not in done:
            for following in edges[name]:
                walk(following, [*trail, name])
            done.add(name)

    for name in edges:
        walk(name, [])
    return found


def _references(path: Path, text: str, known: Iterable[str]) -> list[str]:
    """The interpolated values that a text refers to."""
    found: list[str] = []
    for name in _names(path, text):
        found += [other for other in known if other == name or other.startswith((f"{name}.", f"{name}["))]
    return found


def _names(path: Path, text: str) -> Iterator[str]:
    """The paths that a text refers to; relative references start at the mapping the value stands in."""
    for match in _REFERENCE.finditer(text):
        words = match[1].strip()
        ups = len(words) - len(words.lstrip("."))
        base = [str(part) for part in path[: len(path) - ups]] if ups else []
        yield ".".join([*base, words.lstrip(".")])
