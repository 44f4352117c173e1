"""Writes the reference of the runtime from its docstrings: one page, every public method and function."""

import inspect
import re

import jobc

HEAD = """# The runtime

What a training process holds in its hand, made from the docstrings. Shapes: a *nesting* is any nesting of lists,
tuples, dictionaries and dataclasses with tensors in it. Errors are `FindingsError`s with the codes named
(`jobc explain J504`). All processes have to call what talks to others: `gather` and its like, `prepare`, `save_model`,
`wait_for_everyone`.
"""
OURS = {"Finding", "FindingsError", "JobcError", "load", "plan", "run", "__version__"}
FIRST = ("Accelerator", "PartialState", "AcceleratorState", "DistributedType")


def page():
    """The whole page."""
    names = sorted(set(jobc.__all__) - OURS - set(FIRST), key=str.lower)
    waiting = [name for name in names if getattr(jobc, name).__module__ == "jobc.runtime.later"]
    names = [name for name in names if name not in waiting]
    plugins = [name for name in names if inspect.isclass(getattr(jobc, name))]
    functions = [name for name in names if name not in plugins]
    parts = [HEAD]
    for name in FIRST:
        parts += [f"## {name}\n", *_class(getattr(jobc, name), members=name in ("Accelerator", "PartialState"))]
    parts.append("## Classes that the constructor takes\n")
    for name in plugins:
        parts += [f"### {name}\n", *_class(getattr(jobc, name), members=False)]
    parts.append("## Functions\n")
    for name in functions:
        function = getattr(jobc, name)
        parts += [f"### `{name}{_signature(function)}`\n", _text(function)]
    parts.append("## Names of what is not there yet\n")
    for name in waiting:
        parts += [f"### {name}\n", _text(getattr(jobc, name))]
    return "\n".join(parts).rstrip() + "\n"


def _class(kind, *, members):
    parts = [_text(kind)]
    if not issubclass(kind, str):
        parts.insert(0, f"```python\n{kind.__name__}{_signature(kind, lines=True)}\n```\n")
    for name in sorted(dir(kind)) if members else ():
        member = inspect.getattr_static(kind, name)
        if name.startswith("_"):
            continue
        if isinstance(member, property):
            parts += [f"### `{name}`\n", _text(member)]
        else:
            parts += [f"### `{name}{_signature(member)}`\n", _text(member)]
    return parts


def _signature(thing, *, lines=False):
    found = inspect.signature(thing)
    shown = [item for item in found.parameters.values() if item.name != "self"]
    words = []
    star = False
    for item in shown:
        if item.kind is item.KEYWORD_ONLY and not star:
            words.append("*")
            star = True
        word = {item.VAR_POSITIONAL: "*", item.VAR_KEYWORD: "**"}.get(item.kind, "") + item.name
        star = star or item.kind is item.VAR_POSITIONAL
        if item.default is not item.empty:
            default = f"{type(item.default).__name__}.{item.default.name}" if hasattr(item.default, "name") else None
            quoted = f'"{item.default}"' if type(item.default) is str else repr(item.default)
            word += f"={default or quoted}"
        words.append(re.sub(r"<.*>", "...", word))
    if lines and len(words) > 3:
        return "(\n" + "".join(f"    {word},\n" for word in words) + ")"
    return f"({', '.join(words)})"


def _text(thing):
    """A docstring as Markdown: what it takes and raises becomes lists."""
    out, section = [], None
    for line in inspect.getdoc(thing).splitlines():
        if line in ("Args:", "Raises:"):
            section = line
            out.append("Takes:\n" if line == "Args:" else "Raises:\n")
        elif section and re.match(r"    \S", line):
            name, _, rest = line.strip().partition(": ")
            out.append(f"- {', '.join(f'`{word}`' for word in name.split(', '))}: {rest}")
        elif section and line.strip():
            out[-1] += f" {line.strip()}"
        else:
            section = section if line.startswith(" ") or not line else None
            out.append(line)
    return "\n".join(out).rstrip() + "\n"
