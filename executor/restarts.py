"""Says that an agent on another machine starts its processes again, from what it writes."""

from __future__ import annotations

import re
from dataclasses import dataclass

from .deepspeed import NOTED_BY_DEEPSPEED
from .follow import Display
from .model import failure_of
from .processes import Started
from .screen import Screen, Source
from .torchelastic import NOTED

_TAG = re.compile(rb"^\[(\d+)\] ", re.MULTILINE)


@dataclass
class _Agent:
    """What is known of an agent: its machine, how many processes it has, and how often it may start them again."""

    host: str
    processes: int
    left: int
    first: int | None = None
    done: int = 0


class Restarts:
    """A display that adds a sentence where the agent of a machine notes a failure that is not its last.

    Which ranks a machine has is agreed on when the agents meet; the tags of its lines show it.
    """

    def __init__(self, screen: Screen, display: Display) -> None:
        self._screen = screen
        self._display = display
        self._agents: dict[int, _Agent] = {}
        #: Whether DeepSpeed's launcher on some machine has said that a process of it failed.
        self.failed = False

    def watch(self, item: Started) -> None:
        """Look at what a command writes, if it is an agent on another machine that may start its processes again."""
        for source in item.logs:
            if source.tagged and item.restarts and item.command.ranks:
                host, processes = str(item.command.host), len(item.command.ranks)
                self._agents.setdefault(source.rank, _Agent(host, processes, item.restarts))

    def show(self, source: Source, block: bytes) -> None:
        """Write whole lines of one source, and what they say about a restart."""
        self._display.show(source, block)
        self.failed = self.failed or (source.tagged and NOTED_BY_DEEPSPEED.search(block) is not None)
        agent = self._agents.get(source.rank) if source.tagged else None
        if agent is None:
            return
        for tag in _TAG.findall(block)[-1:]:
            agent.first = int(tag) // agent.processes * agent.processes
        for code, local_rank, _ in NOTED.findall(block):
            if agent.done < agent.left:
                agent.done += 1
                self._say(agent, int(code), int(local_rank))

    def update(self, source: Source, text: bytes) -> None:
        """Show the unfinished line of a source."""
        self._display.update(source, text)

    def _say(self, agent: _Agent, code: int, local_rank: int) -> None:
        who = "a process" if agent.first is None else f"rank {agent.first + local_rank}"
        how = failure_of(code, rank=None).how
        text = f"jobc: {who} on {agent.host} failed: {how}; all processes start again (restart {agent.done})\n"
        self._screen.say(text)
