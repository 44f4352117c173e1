"""The script of a node's command whose life is that of its input: when the input ends, so does what was started."""

from __future__ import annotations

from ..spec import ResolvedSpec
from .launchers.base import Site, joined
from .plan import Command, Name, Ref, Text
from .quoting import node_word


def held_script(
    spec: ResolvedSpec,
    command: Command,
    site: Site,
    *,
    known_there: frozenset[Name] = frozenset(),
    secrets: bool = True,
) -> Text:
    """What bash is given: the command in a session of its own, ended when the script's input is.

    All of it is one function, so that bash has read everything before it starts; what comes after is the input's end.
    `JOBC_RUN` marks every process of this script, so that none is left where one ignores being asked to end.

    Args:
        spec: the resolved job.
        command: the command of the node.
        site: where things are there.
        known_there: placeholders that are variables of bash when the script begins.
        secrets: whether the script sets them; otherwise they are in its environment.
    """

    def word(text: Text) -> Text:
        return node_word(text, known_there)

    exports: list[Text] = [joined(f"  export {name}=", word(text)) for name, text in sorted(command.env.items())]
    if secrets:
        exports += [(f"  export {name}=", Ref("secret", name, quote=True)) for name in spec.job.secrets]
    lines: list[Text] = [
        "main() {",
        "  set -e",
        "  umask 077",
        joined("  cd -- ", word(command.cwd or site.project)),
        joined("  mkdir -p -- ", word(site.logs)),
        *(f'  unset "${{!{prefix}@}}"' for prefix in command.unset),
        joined("  export JOBC_RUN=", word((Ref("run_id"),)), '."$$"'),
        *exports,
        "  exec 3<&0",
        joined("  setsid", *(part for item in command.argv for part in (" ", word(item))), " </dev/null 3<&- &"),
        "  set +e",
        _REST,
        "}",
        "main",
        "",
    ]
    return joined(*(part for line in lines for part in (line, "\n")))


_REST = """\
  child=$!
  sweep() {
    for process in /proc/[0-9]*; do
      if grep -qszxF "JOBC_RUN=$JOBC_RUN" "$process/environ"; then kill -KILL "${process#/proc/}"; fi
    done 2>/dev/null
  }
  (
    while read -r _ <&3; do :; done
    kill -TERM -- "-$child"
    for ((second = 0; second < 30; second++)); do
      kill -0 -- "-$child" || break
      sleep 1
    done
    sweep
  ) >/dev/null 2>&1 &
  watch=$!
  exec 3<&-
  wait "$child"
  code=$?
  kill "$watch"
  sweep
  exit "$code\""""
