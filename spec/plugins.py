"""Targets and launchers of others: what installed distributions give through entry points.

Nothing is looked up before a document names a word that is not ours, because asking what is installed takes longer than
planning. What is found adds to the schema in use; the published one stays as it is.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple

from . import shape
from .findings import Finding, FindingsError, finding
from .parts import Kind
from .sources import Sources
from .tree import Mapping, Node, Origin, Scalar, find

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

#: The group of entry points that gives the words of a field.
GROUPS = {"target": "jobc.targets", "launcher": "jobc.launchers"}


class Plugin(NamedTuple):
    """What a distribution gives under a name: usually a module, with the members of the protocol."""

    field: str
    name: str
    distribution: str
    given: Any

    @property
    def section(self) -> type[Kind]:
        """The struct of a target's section of the document."""
        return self.given.SECTION


class BrokenPluginError(Exception):
    """A plugin that cannot be used: J360, J361 or J362, with cause and next step."""

    def __init__(self, code: str, cause: str, next_step: str) -> None:
        super().__init__(cause)
        self.code = code
        self.cause = cause
        self.next_step = next_step

    def finding(self) -> Finding:
        """The finding, for where no document named the plugin."""
        return finding(self.code, self.cause, next_step=self.next_step)


@cache
def names(field: str) -> tuple[str, ...]:
    """The words that installed distributions give for `target` or `launcher`."""
    return tuple(sorted({point.name for point in _points(field)})) if field in GROUPS else ()


@cache
def plugin(field: str, name: str) -> Plugin | None:
    """What an installed distribution gives for a word; None where none does, and for a word of ours.

    Raises:
        BrokenPluginError: it cannot be used.
    """
    if name in _ours(field):
        return None
    points = [point for point in _points(field) if point.name == name]
    if not points:
        return None
    _one_thing_each(field, name, points)
    point = points[0]
    whose = _whose(point)
    step = f"update or remove {whose}"
    try:
        given = point.load()
    except (Exception, SystemExit) as error:  # the code of others fails as it likes
        cause = f"`{field}: {name}` of {whose} cannot be imported: {in_a_line(error)}"
        raise BrokenPluginError("J360", cause, f"{step}, or install what it needs") from error
    wrong = _lacks(field, name, given)
    if wrong is not None:
        cause = f"`{field}: {name}` of {whose} is no {field}: {wrong}"
        raise BrokenPluginError("J361", cause, f"{step}; docs/plugins.md says what is needed")
    return Plugin(field, name, whose, given)


def learn(root: Mapping, sources: Sources) -> Mapping:
    """The document with the defaults of a plugin that it names; the schema in use then knows the plugin.

    Raises:
        FindingsError: J360 to J362, at the place of the name.
    """
    grown = False
    for field, path in {"target": ("target", "kind"), "launcher": ("launcher",)}.items():
        node: Node | None = find(root, path)
        if field == "target" and node is None:
            node = find(root, ("target",))
        if not isinstance(node, Scalar) or not isinstance(node.value, str):
            continue
        if node.value in known(field) or "${" in node.value:
            continue
        grown |= _use(field, node.value, lambda error, at=node.origin: _at(error, at, sources))
    return shape.normal(root) if grown else root


def learn_all(field: str) -> tuple[Finding, ...]:
    """Add every plugin of a field to the schema in use; what is wrong with those that cannot be used."""
    found: list[Finding] = []
    for name in names(field):
        if name in known(field):
            wrong = _clash(field, next(point for point in _points(field) if point.name == name))
            found.append(wrong.finding())
            continue
        try:
            _use(field, name, lambda error: FindingsError((error.finding(),)))
        except FindingsError as error:
            found += error.findings
    return tuple(found)


@cache
def _ours(field: str) -> frozenset[str]:
    return frozenset(_words(shape.published(), field))


def known(field: str) -> frozenset[str]:
    """The words of a field that the schema in use knows: ours, and those of plugins that were asked for."""
    return frozenset(_words(shape.job_schema(), field))


def _words(schema: shape.Schema, field: str) -> list[str]:
    leaf = schema["properties"][field]
    return list(schema["$defs"]["Target"]["x-kinds"]) if field == "target" else shape.leaf(leaf)["enum"]


def _use(field: str, name: str, wrong: Callable[[BrokenPluginError], FindingsError]) -> bool:
    """Add one plugin to the schema in use; whether there is such a plugin."""
    from .schema import with_launcher, with_target

    try:
        found = plugin(field, name)
        if found is None:
            return False
        now = shape.job_schema()
        shape.extend(with_target(now, found.section) if field == "target" else with_launcher(now, name))
    except BrokenPluginError as error:
        raise wrong(error) from error
    return True


def _at(error: BrokenPluginError, origin: Origin, sources: Sources) -> FindingsError:
    return FindingsError((sources.finding(error.code, origin, error.cause, error.next_step),))


@cache
def _points(field: str) -> tuple[EntryPoint, ...]:
    from importlib.metadata import entry_points

    return tuple(sorted(entry_points(group=GROUPS[field]), key=lambda point: (point.name, _whose(point))))


def _whose(point: EntryPoint) -> str:
    return "an unknown distribution" if point.dist is None else f"{point.dist.name} {point.dist.version}"


def _one_thing_each(field: str, name: str, points: list[EntryPoint]) -> None:
    """J362 where a name means two things: two plugins have it, or a plugin has one of ours."""
    if len(points) > 1:
        whose = " and ".join(_whose(point) for point in points)
        cause = f"`{field}: {name}` is given by {whose}"
        raise BrokenPluginError("J362", cause, "remove all but one of them")
    for point in _points(field):
        if point.name in _ours(field):
            raise _clash(field, point)


def _clash(field: str, point: EntryPoint) -> BrokenPluginError:
    cause = f"{_whose(point)} gives `{field}: {point.name}`, which jobc has itself"
    return BrokenPluginError("J362", cause, f"update or remove {_whose(point)}; jobc uses its own")


def in_a_line(error: BaseException) -> str:
    """An exception in one line, with the place that it was raised at."""
    where, frame = "", error.__traceback__
    while frame is not None:
        where, frame = f" ({frame.tb_frame.f_code.co_filename}:{frame.tb_lineno})", frame.tb_next
    words = " ".join(str(error).split())
    return f"{type(error).__name__}{f': {words}' if words else ''}{where}"


def _lacks(field: str, name: str, given: Any) -> str | None:
    """What a plugin has not that the protocol asks for, in words."""
    wanted: dict[str, tuple[Callable[[Any], bool], str]] = _MEMBERS[field]
    for member, (fits, what) in wanted.items():
        if not hasattr(given, member):
            return f"it has no `{member}`"
        if not fits(getattr(given, member)):
            return f"`{member}` is not {what}"
    if field == "target":
        tag = given.SECTION.__struct_config__.tag
        if tag != name:
            return f"`SECTION` has the kind `{tag}`"
        from .schema import section

        try:
            section(given.SECTION)
        except (TypeError, ValueError) as error:
            return f"the fields of `SECTION` have no schema: {error}"
    return None


def _is_section(value: Any) -> bool:
    return isinstance(value, type) and issubclass(value, Kind) and value.__struct_config__.frozen


def _is_names(value: Any) -> bool:
    return isinstance(value, frozenset) and all(isinstance(item, str) for item in value)  # pyright: ignore[reportUnknownVariableType]


def _is_bool(value: Any) -> bool:
    return isinstance(value, bool)


_FUNCTION = (callable, "a function")
_NAMES = (_is_names, "a frozenset of names")
_MEMBERS: dict[str, dict[str, tuple[Callable[[Any], bool], str]]] = {
    "target": {
        "SECTION": (_is_section, "a struct that is a frozen `jobc.spec.parts.Kind` with a tag"),
        "LAUNCHERS": _NAMES,
        "DEPENDS": (_is_bool, "true or false"),
        "check": _FUNCTION,
        "deploy": _FUNCTION,
    },
    "launcher": {
        "RESTARTS": (_is_bool, "true or false"),
        "OPTIONS": (lambda value: value is None or _is_names(value), "a frozenset of names, or None"),
        "TARGETS": _NAMES,
        "node_commands": _FUNCTION,
    },
}
