"""Carries out a launch plan's steps on this machine and keeps the records of runs."""

from __future__ import annotations

from .model import Asked, Failure, Outcome, Settings, runs_dir
from .record import Record, alive, load
from .run import execute, run_verb

__all__ = ["Asked", "Failure", "Outcome", "Record", "Settings", "alive", "execute", "load", "run_verb", "runs_dir"]
