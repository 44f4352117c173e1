"""The user's own functions before models are saved and loaded."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import nn
from torch.utils.hooks import RemovableHandle

Save = Callable[[list[nn.Module], list[dict[str, Any]], str], object]
Load = Callable[[list[nn.Module], str], object]


class Hooks:
    """Functions that may save or load models themselves: what they take out of the list they are given, they keep."""

    def __init__(self) -> None:
        self._save: OrderedDict[int, Save] = OrderedDict()
        self._load: OrderedDict[int, Load] = OrderedDict()

    def before_save(self, hook: Save) -> RemovableHandle:
        """Adds a function of the models, their whole states and the folder; the handle removes it again."""
        return _added(self._save, hook)

    def before_load(self, hook: Load) -> RemovableHandle:
        """Adds a function of the models and the folder; the handle removes it again."""
        return _added(self._load, hook)

    def saving(self, models: list[nn.Module], state: Callable[[nn.Module], dict[str, Any]], folder: Path) -> set[int]:
        """Calls the functions in order; the numbers of the models that they keep for themselves."""
        if not self._save:
            return set()
        weights = [state(model) for model in models]
        known, given = list(weights), list(models)
        for hook in self._save.values():
            hook(given, weights, str(folder))
        left = {id(item) for item in weights}
        return {number for number, item in enumerate(known) if id(item) not in left}

    def loading(self, models: list[nn.Module], folder: Path) -> set[int]:
        """The same for a checkpoint that is being loaded."""
        given = list(models)
        for hook in self._load.values():
            hook(given, str(folder))
        left = {id(item) for item in given}
        return {number for number, item in enumerate(models) if id(item) not in left}


def _added(table: OrderedDict[int, Any], hook: Any) -> RemovableHandle:
    handle = RemovableHandle(table)
    table[handle.id] = hook
    return handle
