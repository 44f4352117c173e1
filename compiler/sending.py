"""The files of a job's folder that go where the job runs."""

from __future__ import annotations

import os
import posixpath
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathspec import GitIgnoreSpec

#: What stays at home is also said by this file in the job's folder, after what the document says.
IGNORE_FILE = ".jobcignore"


class BadPatternError(Exception):
    """A pattern that says nothing; its line in the ignore file, 0 where it is the document's."""

    def __init__(self, pattern: str, line: int) -> None:
        super().__init__(pattern)
        self.pattern = pattern
        self.line = line


def sent_files(root: str, exclude: tuple[str, ...]) -> tuple[str, ...]:
    """The files below a folder that are copied, by their path from it, in order; patterns are those of gitignore(5).

    A link to a file is copied as that file; one to a folder, and what is neither, is left out.

    Raises:
        BadPatternError: a pattern cannot be read.
    """
    left_out = _spec(Path(root), exclude)
    found: list[str] = []
    for folder, names, files in os.walk(root):
        inside = "" if folder == root else os.path.relpath(folder, root).replace(os.sep, "/")
        names[:] = sorted(name for name in names if not left_out.match_file(f"{posixpath.join(inside, name)}/"))
        for name in sorted(files):
            path = posixpath.join(inside, name)
            if not left_out.match_file(path) and os.path.isfile(os.path.join(folder, name)):  # noqa: PTH113, PTH118
                found.append(path)
    return tuple(found)


def _spec(root: Path, exclude: tuple[str, ...]) -> GitIgnoreSpec:
    written = root / IGNORE_FILE
    lines = written.read_text(errors="surrogateescape").splitlines() if written.is_file() else []
    for line, pattern in [*((0, text) for text in exclude), *enumerate(lines, 1)]:
        _read([pattern], pattern, line)
    return _read([*exclude, *lines])


def _read(lines: list[str], pattern: str = "", line: int = 0) -> GitIgnoreSpec:
    from pathspec import GitIgnoreSpec
    from pathspec.patterns.gitignore import GitIgnorePatternError

    try:
        return GitIgnoreSpec.from_lines(lines)
    except GitIgnorePatternError as error:
        raise BadPatternError(pattern, line) from error
