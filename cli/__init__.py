"""The command line. Each command imports what it needs when it runs, so that `jobc --help` costs nothing else."""

from __future__ import annotations


def main() -> int:
    """Runs the command line and returns its exit code: 0, 2 for findings or misuse, else that of the job."""
    from .app import run_app

    return run_app()
