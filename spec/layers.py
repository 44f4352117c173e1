"""Walks the defaults lists: which documents make up a job, in which order, each at which place.

The rules are Hydra's (`hydra._internal.defaults_list`): a document's entries come before its own settings unless
`_self_` says otherwise, `override` and the command line replace a choice where it was made, and a group's settings land
at the path of its folder unless a package says otherwise. Unlike Hydra, every mistake is found in one walk.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

from . import shape
from .choices import Choice
from .defaults import Item
from .findings import Finding, FindingsError, nearest
from .groups import Document, Library, is_plain
from .sources import Sources
from .tree import Entry, Mapping, Origin

DEEPEST = 32
MOST_DOCUMENTS = 1000


#: Resolves an interpolation in a name: the name, its entry, the choices so far, the document that it stands in.
ResolveName = Callable[[str, Item, dict[str, str], Document], tuple[str | None, tuple[Finding, ...]]]


class Layer(NamedTuple):
    """The settings of one document, at their place in the job."""

    settings: Mapping
    document: Document


class Stack(NamedTuple):
    """The layers of a job from first to last (the last wins), and which choices of the command line were used."""

    layers: tuple[Layer, ...]
    used: frozenset[str]
    findings: tuple[Finding, ...]


class Named(NamedTuple):
    """A choice that was made: what, where, and for which place."""

    names: tuple[str, ...]
    origin: Origin


def stack(
    job: Document,
    library: Library,
    sources: Sources,
    choices: dict[str, Choice],
    added: tuple[Choice, ...],
    resolve_name: ResolveName,
) -> Stack:
    """The layers of a job.

    Args:
        job: the job file.
        library: the files it can build on.
        sources: the texts that findings quote.
        choices: choices of the command line that replace or delete those of the defaults lists, by key.
        added: choices of the command line that are added after the job's own settings.
        resolve_name: resolves an interpolation in the name of a choice, given the choices made so far.
    """
    walk = _Walk(library, sources, choices, resolve_name)
    layers = tuple(walk.job(job, added))
    findings = sorted((*walk.findings, *walk.unused()), key=_place)
    return Stack(layers, frozenset(walk.used), tuple(findings))


def _place(finding: Finding) -> tuple[str, int, int]:
    """The order in which a person reads findings."""
    place = finding.place
    return ("", 0, 0) if place is None else (place.source, place.line or 0, place.column or 0)


class _Here(NamedTuple):
    """Where the walk stands: the folder that groups are relative to, the package, the documents above."""

    folder: str
    package: str
    above: tuple[Document, ...]


class _Walk:
    def __init__(
        self, library: Library, sources: Sources, choices: dict[str, Choice], resolve_name: ResolveName
    ) -> None:
        self.findings: list[Finding] = []
        self.used: set[str] = set()
        self._library = library
        self._sources = sources
        self._choices = choices
        self._resolve_name = resolve_name
        self._overrides: dict[str, Named] = {}
        self._taken: set[str] = set()
        self._made: dict[str, Named] = {}
        self._reported: set[str] = set()
        self._documents = 0

    def job(self, job: Document, added: tuple[Choice, ...]) -> list[Layer]:
        return self._document(job, _Here("", "", ()), tuple(choice.item() for choice in added))

    def unused(self) -> Iterator[Finding]:
        """A finding for every `override` that replaced nothing."""
        for key, override in self._overrides.items():
            if key not in self._taken:
                known = sorted(self._made)
                near = nearest(key, known)
                step = f"did you mean `{near}`?" if near else "leave the word `override` out"
                cause = f"`override {key}` replaces nothing, no defaults list chooses `{key}`"
                yield self._sources.finding("J115", override.origin, cause, step)

    def _document(self, document: Document, here: _Here, added: tuple[Item, ...] = ()) -> list[Layer]:
        """The layers of a document: those of its entries and its own."""
        if document.shown not in self._reported:
            self._reported.add(document.shown)
            self.findings += document.findings
        own = Layer(self._placed(document, here), document)
        items = document.items
        if not any(item.is_self for item in items) and (added or any(not item.override for item in items)):
            items = (*items, Item(group=None, names=("_self_",), origin=document.root.origin))
        items = (*items, *added)
        below = here._replace(above=(*here.above, document))
        for item in items:
            if item.override:
                self._override(item, below)
        # As in Hydra, later entries are looked at first: what they override holds for those before them. Names with an
        # interpolation come last, because they speak of the choices that the others made.
        expanded: dict[int, list[Layer]] = {}
        numbered = [(number, item) for number, item in enumerate(items) if not item.override]
        for number, item in reversed(numbered):
            if item.is_self:
                expanded[number] = [own]
            elif not any("${" in name for name in self._chosen(item, below)):
                expanded[number] = self._item(item, below)
        for number, item in numbered:
            if number not in expanded:
                expanded[number] = self._item(item, below)
        layers = [layer for number, _ in numbered for layer in expanded[number]]
        return layers if numbered else [own]

    def _placed(self, document: Document, here: _Here) -> Mapping:
        """A document's settings as a part of the job."""
        settings: Mapping = document.root
        if not here.package:
            return settings
        if not _is_setting(here.package):
            if settings.entries:
                origin = settings.entries[0].origin
                cause = f"these settings land at `{here.package}`, which a job does not have"
                step = f"start `{document.shown}` with the line `# @package _global_` to set them at the top"
                self._report("J103", origin, cause, step)
            return Mapping((), settings.origin)
        for part in reversed(here.package.split(".")):
            settings = Mapping((Entry(part, settings.origin, settings),), settings.origin)
        return settings

    def _override(self, item: Item, here: _Here) -> None:
        key = _key(item, here)
        if key not in self._overrides and key not in self._choices:
            self._overrides[key] = Named(item.names, item.origin)

    def _chosen(self, item: Item, here: _Here) -> tuple[str, ...]:
        """The names that an entry stands for, after overrides."""
        if item.group is None:
            return item.names
        key = _key(item, here)
        choice = self._choices.get(key)
        if choice is not None:
            if choice.action == "delete":
                return () if choice.names in ((), item.names) else item.names
            return choice.names
        override = self._overrides.get(key)
        return item.names if override is None else override.names

    def _item(self, item: Item, here: _Here) -> list[Layer]:
        names, origin = self._chosen(item, here), item.origin
        folder = _folder(item, here)
        if item.group is not None:
            key = _key(item, here)
            choice = self._choices.get(key)
            if choice is not None and (choice.action != "delete" or not names):
                self.used.add(key)
                origin = choice.origin
            if key in self._overrides:
                self._taken.add(key)
                origin = self._overrides[key].origin
            if any("${" in name for name in names):
                names = self._interpolated(item, names, here)
            if not self._first(key, Named(names, item.origin)):
                return []
        layers: list[Layer] = []
        for name in names:
            path = f"{folder}/{name}" if folder else name.removeprefix("/")
            layers += self._file(item, name, path, origin, here)
        return layers

    def _interpolated(self, item: Item, names: tuple[str, ...], here: _Here) -> tuple[str, ...]:
        made = {key: " ".join(named.names) for key, named in self._made.items()}
        resolved: list[str] = []
        for name in names:
            value, findings = self._resolve_name(name, item, made, here.above[-1])
            self.findings += findings
            if value is not None:
                resolved.append(value)
        return tuple(resolved)

    def _first(self, key: str, named: Named) -> bool:
        """Whether a group is chosen for the first time; a second time is a finding."""
        before = self._made.get(key)
        if before is None:
            self._made[key] = named
            return True
        if _comes_before(named.origin, before.origin):
            named, before = before, named  # the walk begins at the end
        if named.origin.layer == "override":
            step = f"leave the `+` out to replace that choice: `{key}={' '.join(named.names)}`"
            code = "J208"
        else:
            step = (
                f"keep one of them, or write `override {key}: {' '.join(named.names) or 'null'}` to replace the other"
            )
            code = "J115"
        cause = f"the group `{key}` is chosen a second time"
        related = (("the first choice", before.origin),)
        self.findings.append(self._sources.finding(code, named.origin, cause, step, related))
        return False

    def _file(self, item: Item, name: str, path: str, origin: Origin, here: _Here) -> list[Layer]:
        """The layers of one document or group file."""
        if name == "???":
            return self._report("J107", origin, f"the group `{item.group}` waits for a choice", self._must(item, here))
        try:
            found = self._library.find(path)
        except FindingsError as error:
            if path not in self._reported:
                self._reported.add(path)
                self.findings += error.findings
            return []
        if found is None:
            return [] if item.optional else self._missing(item, path, origin)
        loop = [above.shown for above in here.above]
        if any(above.identity == found.identity for above in here.above):
            cause = f"these documents build on each other: {' -> '.join(f'`{name}`' for name in [*loop, found.shown])}"
            return self._report("J116", origin, cause, "take this entry out")
        self._documents += 1
        if len(here.above) > DEEPEST or self._documents > MOST_DOCUMENTS:
            if "J111" in self._reported:
                return []
            self._reported.add("J111")
            what = (
                f"more than {MOST_DOCUMENTS} documents" if len(here.above) <= DEEPEST else f"{DEEPEST} levels of lists"
            )
            return self._report("J111", origin, f"the defaults lists go through {what}", "build on fewer")
        package = _package(item, here, found.package, path)
        if item.package is not None and package and not _is_setting(package):
            near = nearest(package.partition(".")[0], list(shape.job_schema()["properties"]))
            step = f"did you mean `{near}`?" if near else "a package is the path of a block, such as `vars.other`"
            cause = f"`@{item.package}` puts these settings at `{package}`, which a job does not have"
            return self._report("J202", origin, cause, step)
        folder = path.rpartition("/")[0]
        return self._document(found, _Here(folder, package, here.above))

    def _must(self, item: Item, here: _Here) -> str:
        known = self._library.names(_folder(item, here))
        return f"choose one on the command line, `{_key(item, here)}=...`: {', '.join(known)}"

    def _missing(self, item: Item, path: str, origin: Origin) -> list[Layer]:
        cause, step = missing(self._library, path, is_group=item.group is not None)
        return self._report("J114", origin, cause, step)

    def _report(self, code: str, origin: Origin, cause: str, next_step: str) -> list[Layer]:
        self.findings.append(self._sources.finding(code, origin, cause, next_step))
        return []


def missing(library: Library, path: str, *, is_group: bool) -> tuple[str, str]:
    """What to say about a file that no folder has: the cause and the next step."""
    group, _, name = path.rpartition("/")
    if not is_plain(path):
        return f"`{path}` leaves the folders that are searched", "name a file below them; `--config-dir` adds a folder"
    known = library.names(group)
    cause = f"there is no `{path}.yaml`"
    bare = name.removesuffix(".yaml").removesuffix(".yml").removesuffix(".toml")
    if bare != name and bare in known:
        return cause, f"leave the ending out: `{bare}`"
    near = nearest(name, known)
    if not known and group:
        groups = library.groups()
        near = nearest(group, groups)
        if near is not None:
            return cause, f"did you mean the group `{near}`?"
        return cause, f"no folder `{group}` holds group files; groups: {', '.join(groups) or 'none'}"
    if near is not None:
        return cause, f"did you mean `{near}`?" + (f"  choices: {', '.join(known)}" if is_group else "")
    if known:
        return cause, f"{'choices' if is_group else 'documents there'}: {', '.join(known[:20])}"
    return cause, "no other document is beside the job"


# --- places ---------------------------------------------------------------------------------------------------------


def _is_setting(package: str) -> bool:
    return package.partition(".")[0] in shape.job_schema()["properties"]


def _comes_before(one: Origin, other: Origin) -> bool:
    """Whether a person reads one place before another: in a file by line, and what the command line adds comes last."""
    if other.layer == "override" or one.layer == "override":
        return other.layer == "override" and one.layer != "override"
    return one.source == other.source and (one.line or 0, one.column or 0) < (other.line or 0, other.column or 0)


def _folder(item: Item, here: _Here) -> str:
    """The folder of an entry's files, from the folders that are searched."""
    if item.group is None:
        name = item.names[0]
        return here.folder if not name.startswith("/") else ""
    if item.group.startswith("/"):
        return item.group[1:]
    return f"{here.folder}/{item.group}" if here.folder else item.group


def _key(item: Item, here: _Here) -> str:
    """The name under which a choice can be replaced: its group, with the package where that is not the group's own."""
    group = _folder(item, here)
    package = _package(item, here, None, f"{group}/x")
    default = group.replace("/", ".")
    return group if package == default else f"{group}@{package or '_global_'}"


def _package(item: Item, here: _Here, header: str | None, path: str) -> str:
    """Where a document's settings land: what the entry says, else its header, else the folders it was named by."""
    package = item.package
    if package == "_here_":
        package = ""
    elif package is not None and "_group_" in package:
        package = f"_global_.{package.replace('_group_', path.rpartition('/')[0].replace('/', '.'))}"
    elif package is None and header is not None:
        package = header if header.startswith("_global_") else f"_global_.{header}"
    elif package is None:
        named = item.group if item.group is not None else item.names[0].rpartition("/")[0]
        package = named.strip("/").replace("/", ".")
    full = ".".join(part for part in (here.package, package) if part)
    head, found, tail = full.rpartition("_global_")
    return tail.removeprefix(".") if found else head + tail
