"""Lines, updates and their rests, as pure functions of bytes."""

import pytest
from jobc.executor.files import last_lines
from jobc.executor.lines import LONGEST, Lines


def shown(*pieces):
    lines = Lines()
    return b"".join(lines.feed(piece) for piece in pieces) + lines.finish()


@pytest.mark.parametrize(
    ("pieces", "expected"),
    [
        ([b"a\nb\n"], b"a\nb\n"),
        ([b"a", b"b\n", b"c"], b"ab\nc\n"),
        ([b"1%\r2%\r3%\nnext\n"], b"3%\nnext\n"),
        ([b"1%\r", b"2%", b"\r", b"3%"], b"3%\n"),
        ([b"1%\r"], b"1%\n"),
        ([b"dos\r\nline\r", b"\n"], b"dos\nline\n"),
        ([b"bar\r   \r"], b""),
        ([b"\n\n"], b"\n\n"),
        ([b""], b""),
        ([b"\xff\xfe\x00\n"], b"\xff\xfe\x00\n"),
    ],
)
def test_lines_keep_the_last_state_of_each(pieces, expected):
    """Whole lines come out as they are; of updates only the last state does."""
    assert shown(*pieces) == expected


def test_lines_do_not_depend_on_where_they_are_cut():
    """However the bytes arrive, the same lines come out."""
    text = b"one\r\ntwo\r2wo\rtwo!\n\r\nthree\rfour\nrest\rREST"
    assert {shown(*(text[i : i + size] for i in range(0, len(text), size))) for size in range(1, len(text))} == {
        shown(text)
    }


def test_lines_pass_on_a_very_long_line():
    """A line longer than what is kept in memory comes out in pieces, complete."""
    piece = b"x" * 65536
    lines = Lines()
    out = b""
    for _ in range(3 * LONGEST // len(piece)):
        out += lines.feed(piece)
        assert len(lines.rest) <= LONGEST
    assert out + lines.finish() == piece * (3 * LONGEST // len(piece)) + b"\n"


def test_last_lines_of_a_file(tmp_path):
    """The end of a log, for people."""
    log = tmp_path / "log"
    log.write_bytes(b"".join(b"line %d\n" % index for index in range(50)) + b"1%\r2%\r\xff\n\n")
    assert last_lines(log, 3) == ("line 48", "line 49", "\N{REPLACEMENT CHARACTER}")
    assert last_lines(tmp_path / "none") == ()
