"""Logging that knows about processes."""

from __future__ import annotations

import logging
from collections.abc import MutableMapping
from typing import Any

from .operations import wait_for_everyone
from .world import open_world, told_rank


class ProcessAdapter(logging.LoggerAdapter[logging.Logger]):
    """A logger that speaks in the first process only, unless a call says otherwise.

    Every call takes `main_process_only=False`, to speak in every process, and `in_order=True`, to speak in one process
    after another; all processes have to make such a call. Lines begin with the rank where there are several processes.
    """

    def __init__(self, logger: logging.Logger) -> None:
        super().__init__(logger, {})
        self._said: set[tuple[Any, ...]] = set()

    def log(self, level: int, msg: object, *args: Any, **kwargs: Any) -> None:
        """Logs once, or in every process."""
        main_only = kwargs.pop("main_process_only", True)
        in_order = kwargs.pop("in_order", False)
        if not self.isEnabledFor(level):
            return
        # This frame is not where the call was made.
        kwargs["stacklevel"] = kwargs.get("stacklevel", 1) + 1
        if in_order:
            here = open_world()
            for turn in range(here.size):
                if turn == here.rank:
                    super().log(level, msg, *args, **kwargs)
                wait_for_everyone()
        elif not main_only or told_rank()[0] == 0:
            super().log(level, msg, *args, **kwargs)

    def process(self, msg: Any, kwargs: MutableMapping[str, Any]) -> tuple[Any, MutableMapping[str, Any]]:
        """The message with this process's rank before it."""
        rank, size = told_rank()
        return (f"[RANK {rank}] {msg}" if size > 1 else msg), kwargs

    def warning_once(self, msg: object, *args: Any, **kwargs: Any) -> None:
        """Warns the first time that it is called with a message."""
        key = (msg, args)
        if key not in self._said:
            self._said.add(key)
            self.warning(msg, *args, **{**kwargs, "stacklevel": kwargs.get("stacklevel", 1) + 1})


def get_logger(name: str, log_level: str | None = None) -> ProcessAdapter:
    """A logger of this name that speaks in the first process only; `log_level` (`INFO`) is set on it and the root."""
    logger = logging.getLogger(name)
    if log_level is not None:
        logger.setLevel(log_level.upper())
        logger.root.setLevel(log_level.upper())
    return ProcessAdapter(logger)
