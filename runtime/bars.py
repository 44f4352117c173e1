"""Progress bars."""

from __future__ import annotations

from typing import Any

from .state import PartialState


def tqdm(*args: Any, main_process_only: bool = True, **kwargs: Any) -> Any:
    """A progress bar of the library tqdm, drawn by the first process of each machine only.

    Raises:
        ImportError: tqdm is not installed.
    """
    from tqdm import auto  # noqa: PLC0415 - only who draws bars needs it

    if main_process_only and not kwargs.get("disable"):
        kwargs["disable"] = not PartialState().is_local_main_process
    return auto.tqdm(*args, **kwargs)
