"""The page of each finding: what it means, a document that causes it, and what to do.

The texts are data (`pages.toml`). `jobc explain J103` shows one, and the reference page of findings is made from them.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

import msgspec

PAGES_FILE = Path(__file__).with_name("pages.toml")


class Page(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What there is to know about one code.

    `example` is the document that causes it, under the name `file`, with `overrides` on the command line. `when` says
    when it can happen, for a finding that no document alone can cause.
    """

    meaning: str
    advice: str
    example: str = ""
    file: str = "job.yaml"
    overrides: tuple[str, ...] = ()
    when: str = ""


@cache
def pages() -> dict[str, Page]:
    """Every page by its code."""
    import tomllib

    read = tomllib.loads(PAGES_FILE.read_text(encoding="utf-8"))
    return msgspec.convert(read, dict[str, Page])


def page(code: str) -> Page:
    """The page of a code.

    Raises:
        KeyError: the code has no page; a test sees to it that every code of the catalogue has one.
    """
    return pages()[code]
