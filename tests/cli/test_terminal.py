"""`jobc run` of one process at a real terminal: a debugger, a progress bar, a program that asks questions."""

import fcntl
import os
import pty
import signal
import struct
import sys
import termios

import pytest

DEBUGGED = "import pdb\nx = 41\npdb.set_trace()\nprint('x is', x)\n"
BAR = """
import sys
from tqdm import tqdm
assert sys.stdin.isatty() and sys.stdout.isatty() and sys.stderr.isatty()
for _ in tqdm(range(3), mininterval=0, miniters=1, ascii=True):
    pass
print("columns", __import__("os").get_terminal_size().columns)
"""


class Terminal:
    """A terminal of 24 rows and 97 columns with `jobc run job.yaml` in its foreground."""

    def __init__(self):
        self.shown = b""
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            try:
                fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 97, 0, 0))
                os.execv(sys.executable, [sys.executable, "-m", "jobc", "run", "job.yaml"])
            finally:
                os._exit(127)

    def type(self, data):
        os.write(self.fd, data)

    def until(self, text):
        while text not in self.shown:
            assert self._read(), self.shown

    def end(self):
        while self._read():
            pass
        code = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        self.pid = 0
        return code

    def close(self):
        if self.pid:
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
        os.close(self.fd)

    def _read(self):
        try:
            data = os.read(self.fd, 65536)
        except OSError:  # everybody has left the terminal
            return False
        self.shown += data
        return bool(data)


@pytest.fixture
def terminal(folder):
    """Starts a script at a terminal."""
    opened = []

    def start(script):
        (folder / "job.yaml").write_text("script: train.py\n")
        (folder / "train.py").write_text(script)
        opened.append(Terminal())
        return opened[-1]

    yield start
    for each in opened:
        each.close()


def test_debugger_of_a_job_takes_commands(terminal):
    """pdb stops, prints, changes a value and goes on, with echo and prompt as without jobc."""
    at = terminal(DEBUGGED)
    at.until(b"(Pdb) ")
    at.type(b"p x\n")
    at.until(b"p x\r\n41\r\n(Pdb) ")
    at.type(b"x = 7\n")
    at.until(b"x = 7\r\n(Pdb) ")
    at.type(b"c\n")
    at.until(b"x is 7\r\n")
    assert at.end() == 0


def test_progress_bar_of_a_job_redraws_its_line(terminal):
    """tqdm sees a terminal of its width and goes back to the start of the line; jobc adds nothing to it."""
    at = terminal(BAR)
    assert at.end() == 0
    bar = at.shown[at.shown.index(b"\r") :]
    assert b"\r  0%|" in at.shown
    assert b"\r100%|" in at.shown
    assert b"columns 97\r\n" in bar
    assert b"[0]" not in at.shown


def test_question_of_a_job_is_answered(terminal):
    """What is typed reaches the script, and Ctrl-D ends its input."""
    at = terminal("print('you said', input('name? '))\nimport sys\nprint('rest', repr(sys.stdin.read()))\n")
    at.until(b"name? ")
    at.type("Jos\u00e9\n".encode())
    at.until("you said Jos\u00e9\r\n".encode())
    at.type(b"\x04")
    at.until(b"rest ''\r\n")
    assert at.end() == 0
