"""What a node is asked before a job runs there: a script of bash that every target sends its own way.

It prints lines that begin with `jobc-preflight`: `here` when it begins, `without NAME` for a program that is missing,
`empty` where the job's files are not there yet, `ready` after the job's `setup`, `report` with what the machine says of
itself, and `end` with the exit code of it all.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

from ..spec import ResolvedSpec
from .launchers.base import Site, folder, interpreter, joined, prepared, shared_env
from .plan import Ref, Text
from .quoting import script_word

_PROBE = Path(__file__).parent.parent / "templates" / "preflight" / "probe.py"
#: Seconds for `setup` and the probe together; torch on a cold network disk takes its time.
_LIMIT = 120
_READY = """\
printf '\\njobc-preflight ready\\n'
command -v -- "$1" >/dev/null || printf 'jobc-preflight without %s\\n' "$1"
exec "${@:2}\""""


def probing(spec: ResolvedSpec, site: Site, *, disk: Text, programs: tuple[str, ...] = ()) -> Text:
    """The script for one node.

    Args:
        spec: the resolved job.
        site: where things are on the node.
        disk: the folder that will be written to, from the home folder there.
        programs: what the target needs beside the interpreter.
    """
    job = spec.job
    rendezvous, python = job.nodes.rendezvous, interpreter(spec, site)
    needed: Text = job.command[0] if job.command is not None else python
    address: Text = site.address if job.nodes.count > 1 else ""
    port = "" if rendezvous.port is None or job.processes == 1 else str(rendezvous.port)
    kind = job.hardware.__struct_config__.tag
    asked = (python, "-c", _probe(), str(kind), port, address, disk)
    argv = prepared(spec, ("bash", "-c", _READY, "jobc", needed, *asked))
    env = {name: text for name, text in shared_env(spec, site).items() if name != "JOBC_SPEC"}
    lines: list[Text] = [
        "main() {",
        "  umask 077",
        r"  printf 'jobc-preflight here\n'",
        *(
            rf"  command -v {program} >/dev/null || printf 'jobc-preflight without %s\n' {program}"
            for program in programs
        ),
        joined("  cd -- ", script_word(folder(spec, site)), r" 2>/dev/null || printf 'jobc-preflight empty\n'"),
        *(joined(f"  export {name}=", script_word(text)) for name, text in sorted(env.items())),
        *((f"  export {name}=", Ref("secret", name, quote=True)) for name in job.secrets),
        joined(f"  timeout {_LIMIT}", *(part for word in argv for part in (" ", script_word(word))), " </dev/null"),
        r"""  printf '\njobc-preflight end %s\n' "$?" """.rstrip(),
        "  exit 0",
        "}",
        "main",
    ]
    return joined(*(part for line in lines for part in (line, "\n")))


@cache
def _probe() -> str:
    return _PROBE.read_text(encoding="utf-8")
