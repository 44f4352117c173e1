"""Who brought CUDA into this process, as far as that can be known afterwards."""

from __future__ import annotations

import ast
import re
import sys
import sysconfig
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor, nn

#: Libraries that use a GPU as soon as they are imported.
_AT_IMPORT = ("bitsandbytes", "cupy", "tensorflow", "jax")
_WORDS = (".cuda(", "torch.cuda.", '"cuda', "'cuda")
#: What asks about GPUs and uses none.
_ASKS = re.compile(r"torch\.cuda\.(is_available|device_count|is_initialized)\(\)")
#: Statements that only say what is to be done later.
_LATER = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Import, ast.ImportFrom)
_LIBRARIES = {sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")}
_HERE = __name__.partition(".")[0]


def who_used_cuda(function: Callable[..., Any], kinds: Collection[str] = ("cuda",)) -> str:
    """What is known: cells of the notebook that name CUDA, variables on a GPU, and imports that used one.

    One line each; the empty text where nothing is known. `kinds` are the kinds of devices that count.
    """
    names: Mapping[str, Any] = getattr(function, "__globals__", {})
    cells = [str(text) for text in names.get("In", ())]
    modules = {name: module for name, module in list(sys.modules.items()) if _is_users(module)}
    found = [*_cells(cells), *_variables(names, kinds)]
    for name, module in modules.items():
        lines = [*_left(module, kinds), *_ran(module)]
        found += [f"{_import_of(name, cells)} {line}" for line in lines]
    return "\n".join([*found, *_libraries(sys.modules)])


def _cells(cells: Sequence[str]) -> Iterable[str]:
    for number, text in enumerate(cells):
        for line in text.splitlines():
            if _names_cuda(line) and not line.lstrip().startswith("#"):
                yield f"In [{number}] says `{line.strip()}`"


def _names_cuda(text: str) -> bool:
    rest = _ASKS.sub("", text)
    return any(word in rest for word in _WORDS)


def _variables(names: Mapping[str, Any], kinds: Collection[str]) -> Iterator[str]:
    for name, value in names.items():
        device = _device_of(value)
        if device is not None and device.type in kinds:
            yield f"the variable `{name}` is on {device}"


def _device_of(value: Any) -> Any:
    """The device of a tensor or a model; None of anything else. Proxies of other kinds are not woken."""
    if issubclass(type(value), nn.Module):
        value = next(value.parameters(), None)
    return value.device if issubclass(type(value), Tensor) else None


def _left(module: Any, kinds: Collection[str]) -> Iterator[str]:
    """What an import left on a GPU."""
    return (f"left something there: {line}" for line in _variables(vars(module), kinds))


def _ran(module: Any) -> Iterator[str]:
    """Statements of a module that name CUDA and that its import ran."""
    path = Path(module.__file__)
    try:
        text = path.read_text()
        statements = ast.parse(text).body
    except (OSError, SyntaxError, UnicodeDecodeError):  # a file that is gone, or is no longer what was imported
        return
    lines = text.splitlines()
    for statement in statements:
        if not isinstance(statement, _LATER) and _names_cuda(ast.get_source_segment(text, statement) or ""):
            yield f"ran `{lines[statement.lineno - 1].strip()}` ({path}:{statement.lineno})"


def _import_of(name: str, cells: Sequence[str]) -> str:
    """The import of a module as the notebook writes it, if it does."""
    asked = re.compile(
        rf"^\s*(import\s+(.*,\s*)?{re.escape(name)}\b|from\s+{re.escape(name)}\s+import\b).*", re.MULTILINE
    )
    for number, text in enumerate(cells):
        written = asked.search(text)
        if written:
            return f"`{written[0].strip()}` in In [{number}]"
    return f"`import {name}`"


def _is_users(module: Any) -> bool:
    """Whether a module is a file of the user's: of no library, not Python's and not ours."""
    file = getattr(module, "__file__", None)
    name = getattr(module, "__name__", "__main__")
    if not isinstance(file, str) or not file.endswith(".py") or name.partition(".")[0] in ("__main__", _HERE):
        return False
    return not any(Path(file).is_relative_to(folder) for folder in _LIBRARIES)


def _libraries(modules: Iterable[str]) -> Iterator[str]:
    for name in _AT_IMPORT:
        if name in modules:
            yield f"`import {name}` may have used a GPU"
