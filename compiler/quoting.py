"""Argument vectors as text. Everything that becomes shell text is quoted here and nowhere else."""

from __future__ import annotations

import re
import shlex

import msgspec

from .plan import Argv, Command, Name, Ref, Text


def shown(text: Text) -> str:
    """A text as a person reads it: quoted for a shell, placeholders as `<name>`.

    A user's own `<name>` comes out in quotes, so the two cannot be confused.
    """
    if isinstance(text, str):
        return _visible(text)
    return "".join(f"<{_named(part)}>" if isinstance(part, Ref) else part and _visible(part) for part in text)


def plain(text: Text) -> str:
    """A text without quotes, placeholders as `<name>`: for values that stand alone."""
    if isinstance(text, str):
        return text
    return "".join(f"<{_named(part)}>" if isinstance(part, Ref) else part for part in text)


def _named(part: Ref) -> str:
    if part.ref == "rank":
        return f"rank of process {part.local}"
    if part.ref == "captured":
        return part.name
    return f"{part.ref} {part.name}" if part.name else part.ref


def shell(text: Text) -> str:
    """A text as a word of bash, placeholders as the variables of their name."""
    if isinstance(text, str):
        return shlex.quote(text)
    return "".join(_variable(part) if isinstance(part, Ref) else part and shlex.quote(part) for part in text)


def script_word(text: Text) -> Text:
    """A text as words of a shell script whose placeholders the executor fills in, quoted."""
    if isinstance(text, str):
        return shell(text)
    return tuple(shell(part) if isinstance(part, str) else msgspec.structs.replace(part, quote=True) for part in text)


def node_word(text: Text, known_there: frozenset[Name]) -> Text:
    """A text as words of a script for a node, quoted.

    What is known there becomes a variable of the script; the executor fills in the rest.
    """
    if isinstance(text, str):
        return shell(text)
    return tuple(
        shell(part)
        if isinstance(part, str)
        else _variable(part)
        if part.ref in known_there
        else msgspec.structs.replace(part, quote=True)
        for part in text
    )


def node_command(command: Command, known_there: frozenset[Name]) -> tuple[Text, ...]:
    """A command of a node as lines of bash, the last of which takes the place of the shell.

    Its words are made before a variable of the job can take the name of one of the script.

    Placeholders in `known_there` become variables that the script must have set: `node`, `head`, `port` and so on by
    their own names, and `per_node` where there is a `rank`.
    """
    words = [node_word(word, known_there) for word in command.argv]
    cwd = () if command.cwd is None else (("cd -- ", *_parts(node_word(command.cwd, known_there)), " || exit"),)
    return (
        ("set --", *(part for word in words for part in (" ", *_parts(word)))),
        *(f'unset "${{!{prefix}@}}"' for prefix in command.unset),
        *((f"export {name}=", *_parts(node_word(text, known_there))) for name, text in sorted(command.env.items())),
        *cwd,
        'exec "$@"',
    )


def unexpandable(line: Text) -> Text:
    """A line of bash without `$(` and `$$`, which Kubernetes reads in the commands of containers as its own.

    Both may stand in quoted words only, which is where what a job says stands.
    """
    return tuple(re.sub(r"\$(?=[$(])", "$''", part) if isinstance(part, str) else part for part in _parts(line))


def _parts(text: Text) -> tuple[str | Ref, ...]:
    return (text,) if isinstance(text, str) else text


def _variable(part: Ref) -> str:
    if part.ref == "rank":
        return f'"$((node * per_node + {part.local}))"'
    name = re.sub(r"\W", "_", f"job_id_of_{part.name}") if part.ref == "earlier" else part.name or part.ref
    return f'"${{{name}{"@Q" if part.quote else ""}}}"'


def shown_argv(argv: Argv) -> str:
    """A command line as a person reads it."""
    return " ".join(shown(word) for word in argv)


def shell_command(command: Command, timeout: float | None = None) -> str:
    """A command with its variables, its folder and its time limit in seconds, as a line of bash that replaces it."""
    env = [f"{name}={shell(value)}" for name, value in command.env.items()]
    unset = "".join(f'unset "${{!{prefix}@}}"; ' for prefix in command.unset)
    limit = [] if timeout is None else ["timeout", "--kill-after=30", f"{timeout:g}"]
    if limit and command.output == "inherit":
        limit.insert(1, "--foreground")  # it keeps the terminal
    words = [*limit, *(["env", *env] if env else []), *(shell(word) for word in command.argv)]
    words = unset + " ".join(["exec", *words])
    return words if command.cwd is None else f"cd -- {shell(command.cwd)} && {words}"


def _visible(word: str) -> str:
    """A quoted word on one line: what does not print is escaped as bash's `$'...'` does."""
    if word.isprintable():
        return shlex.quote(word)
    escaped = "".join(_escape(char) for char in word)
    return f"$'{escaped}'"


def _escape(char: str) -> str:
    if char in "\\'":
        return f"\\{char}"
    if char.isprintable():
        return char
    named = {"\n": "\\n", "\t": "\\t", "\r": "\\r", "\x1b": "\\e"}
    return named.get(char) or "".join(f"\\x{byte:02x}" for byte in char.encode("utf-8", "surrogatepass"))
