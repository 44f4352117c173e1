"""What can stand at the cursor: job files, overrides by path and value, paths and codes to explain.

Neither a parser of documents nor a validator is imported here: a TAB must feel like one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import click
from click.shell_completion import CompletionItem

from ..spec import plugins
from ..spec.describe import Field, fields, fields_at, kinds_at

Items = list[CompletionItem[str]]

_FORMATS = (".yaml", ".yml", ".toml")
_PRESETS = Path(__file__).parent.parent / "presets"


def jobs(_: click.Context, incomplete: str) -> Items:
    """Job files, and folders on the way to one."""
    return list(_files(incomplete, _FORMATS))


def overrides(context: click.Context, incomplete: str) -> Items:
    """`nodes.co` becomes `nodes.count=`; after the `=` come the values."""
    bare = incomplete.lstrip("+~")
    mark = incomplete[: len(incomplete) - len(bare)]
    path, equals, value = bare.partition("=")
    if equals:
        return [_moved(item, f"{mark}{path}=") for item in _values(context, path, value)]
    return [_moved(item, mark) for item in _paths(bare, removed="~" in mark)]


def explained(context: click.Context, incomplete: str) -> Items:
    """What `jobc explain` takes: a job, then a path or a code, and overrides."""
    if "=" in incomplete or incomplete.startswith(("+", "~")):
        return overrides(context, incomplete)
    words: tuple[str, ...] = context.params.get("words") or ()
    named = any(word.endswith(_FORMATS) for word in words)
    found: Items = [] if named else jobs(context, incomplete)
    found += [
        CompletionItem(field.path, help=field.doc)
        for field in _level(incomplete)
        if field.path.startswith(incomplete) and not any(item.value == field.path for item in found)
    ]
    if incomplete[:1] in {"J", "j"}:
        from ..spec.codes import CODES

        found += [
            CompletionItem(code, help=entry.title)
            for code, entry in CODES.items()
            if code.startswith(incomplete.upper())
        ]
    if named and incomplete:
        found += [item for item in _paths(incomplete, removed=False) if item.value.endswith("=")]
    return found


def _level(prefix: str) -> Iterator[Field]:
    """The fields of the level that a prefix is in, each once."""
    above = prefix.rpartition(".")[0]
    seen: set[str] = set()
    for field in fields():
        if field.path.rpartition(".")[0] == above and field.path not in seen:
            seen.add(field.path)
            yield field


def _paths(prefix: str, *, removed: bool) -> Iterator[CompletionItem[str]]:
    for field in _level(prefix):
        if not field.path.startswith(prefix):
            continue
        if removed:
            yield CompletionItem(field.path, help=field.doc)
            continue
        if field.word:
            yield CompletionItem(f"{field.path}=", help=field.doc)
        if field.keys:
            yield CompletionItem(f"{field.path}.", help=f"its settings: {field.doc}" if field.word else field.doc)


def _values(context: click.Context, path: str, value: str) -> Iterator[CompletionItem[str]]:
    """Choices, kinds, group files and paths; after a comma the next value of a sweep."""
    if path == "script":
        yield from _files(value, (".py",))
        return
    if path == "workdir":
        yield from _files(value, ())
        return
    before = value[: value.rfind(",") + 1]
    last = value[len(before) :]
    if before.startswith(("[", "{", "'", '"')):
        return
    said = {word for word in before.split(",") if word}
    sentences = kinds_at(path)
    words = {word: sentences.get(word) for field in fields_at(path) for word in field.choices}
    words |= {name: None for name in plugins.names(path) if name not in words}
    words |= {name: _first_comment(file) for name, file in _group_files(context, path) if name not in words}
    for word, text in words.items():
        if word.startswith(last) and word not in said:
            yield CompletionItem(f"{before}{word}", help=text)


def _group_files(context: click.Context, path: str) -> Iterator[tuple[str, Path]]:
    """Files that stand for a choice: `hardware/dgx.yaml` beside the job, in a `--config-dir`, or a preset."""
    words: Iterable[str] = context.params.get("words") or ()
    job = context.params.get("job") or next((word for word in words if word.endswith(_FORMATS)), None)
    folders = [Path(job).parent] if job else []
    folders += [Path(folder) for folder in context.params.get("config_dirs") or ()]
    for folder in (*folders, _PRESETS):
        group = folder / path.replace(".", "/")
        yield from ((file.stem, file) for file in _entries(group) if file.suffix in _FORMATS)


def _first_comment(file: Path) -> str | None:
    """What a group file says of itself in its first line."""
    try:
        with file.open(encoding="utf-8", errors="replace") as lines:
            first = lines.readline(200).strip()
    except OSError:
        return None
    return first.lstrip("# ") if first.startswith("#") else None


def _files(prefix: str, suffixes: tuple[str, ...]) -> Iterator[CompletionItem[str]]:
    """Files with one of the suffixes, and folders, as the prefix names them."""
    folder, _, name = prefix.rpartition("/")
    above = prefix[: len(prefix) - len(name)]
    for entry in _entries(Path(folder or ("/" if above else ".")).expanduser()):
        if not entry.name.startswith(name) or (entry.name.startswith(".") and not name.startswith(".")):
            continue
        if entry.is_dir():
            yield CompletionItem(f"{above}{entry.name}/")
        elif entry.suffix in suffixes:
            yield CompletionItem(f"{above}{entry.name}")


def _entries(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except OSError:
        return []


def _moved(item: CompletionItem[str], before: str) -> CompletionItem[str]:
    return CompletionItem(f"{before}{item.value}", help=item.help)
