"""The launcher `profile`: processes that are started directly, each under Python's own profiler."""

import msgspec
from jobc.compiler.launchers import python
from jobc.compiler.launchers.base import Site, entry, interpreter, joined, limited, prepared
from jobc.compiler.plan import Command
from jobc.spec import FindingsError, ResolvedSpec, finding

RESTARTS = False  # it watches over nothing
OPTIONS = None  # `launcher_args` have no meaning for it
TARGETS = frozenset({"local", "nice"})  # where `Site.logs` is a folder of this machine


def node_commands(spec: ResolvedSpec, site: Site) -> tuple[Command, ...]:
    """The commands of the launcher `python`, with cProfile between the interpreter and the script."""
    if spec.job.command is not None:
        cause = "the launcher `profile` profiles Python, and the job runs a command"
        step = "say `script` or `module`, or leave `launcher` out"
        raise FindingsError((finding("J311", cause, place=spec.place("command"), next_step=step),))
    return tuple(_profiled(spec, site, command) for command in python.node_commands(spec, site))


def _profiled(spec: ResolvedSpec, site: Site, command: Command) -> Command:
    file = joined(site.logs, f"/rank_{command.ranks[0]}.prof")
    argv = (*limited(spec), interpreter(spec, site), "-m", "cProfile", "-o", file, *entry(spec))
    return msgspec.structs.replace(command, argv=prepared(spec, argv))
