"""A small process that outlives a killed jobc and ends what the run leaves behind."""

from __future__ import annotations

import os
import subprocess
from contextlib import suppress
from pathlib import Path
from typing import Self

#: It learns the run's commands, a process id a line, until its input ends. After `ended` nothing is left to do. Else
#: jobc was killed, and the kernel has asked the commands to end: they have their time, and whatever still carries the
#: run's mark then is asked to end, and ended.
_PROGRAM = r"""
mark=$1 grace=$2 commands=
while read -r word; do
  [ "$word" = ended ] && exit 0
  commands="$commands $word"
done
send() {
  found=1
  for process in /proc/[0-9]*; do
    if grep -qszxF -e "$mark" "$process/environ"; then kill "$1" "${process#/proc/}" && found=0; fi
  done
  return $found
}
left=$((grace * 10))
for pid in $commands; do
  while [ $left -gt 0 ] && kill -0 "$pid"; do sleep 0.1; left=$((left - 1)); done
done
send -TERM || exit 0
for _ in 1 2 3 4 5 6 7 8 9 10; do
  sleep 0.5
  send -0 || exit 0
done
while send -KILL; do sleep 0.1; done
"""


class Guardian:
    """Within this context the processes of a run are ended even if this one is killed.

    They are known by `JOBC_SPEC`, which all descendants inherit that do not take it out of their environment.
    """

    def __init__(self, run_dir: Path, grace: float) -> None:
        mark = f"JOBC_SPEC={run_dir}/spec.json"
        words = ["sh", "-c", _PROGRAM, "jobc-guardian", mark, str(max(1, round(grace)))]
        self._process: subprocess.Popen[bytes] | None = None
        if "\n" in mark or not Path("/proc/self/environ").exists():  # grep would take it for two marks
            return
        with suppress(OSError):  # a system without a shell has no guardian
            self._process = subprocess.Popen(
                words,
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
                cwd="/",
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is not None:
            self._say("ended")
            with suppress(OSError):  # it was killed, and what was said to it cannot be flushed
                self._process.communicate()

    def add(self, pid: int) -> None:
        """Tell it of a command that was started."""
        self._say(str(pid))

    def _say(self, word: str) -> None:
        if self._process is not None and self._process.stdin is not None:
            with suppress(OSError):  # somebody killed it
                os.write(self._process.stdin.fileno(), f"{word}\n".encode())
