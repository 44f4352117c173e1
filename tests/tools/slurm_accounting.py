"""What a Slurm of slurm.py needs to remember jobs: slurmdbd, over a MariaDB of its own, both in the cluster's folder."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import processes
from ports import free_ports

#: Lines of slurm.conf; without the last one it looks for munge where systems have it.
CONFIG = """\
AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost=127.0.0.1
AccountingStoragePort={port}
AccountingStoragePass={folder}/munge.sock
"""
DAEMON = """\
AuthType=auth/munge
AuthInfo=socket={folder}/munge.sock
DbdHost=localhost
DbdAddr=127.0.0.1
DbdPort={port}
SlurmUser=root
PidFile={folder}/slurmdbd.pid
LogFile={folder}/log/slurmdbd.log
StorageType=accounting_storage/mysql
StorageHost=127.0.0.1
StoragePort={database}
StorageUser=root
StorageLoc=slurm
"""


class Accounting:
    """slurmdbd and its database; `lines` belong into slurm.conf."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port, self.database = free_ports(2)
        self.lines = CONFIG.format(folder=folder, port=self.port)

    def start(self, run: Callable[[list[str]], None]) -> None:
        """Until both listen; `run` starts a command of the cluster."""
        data = self.folder / "database"
        run(["mariadb-install-db", "--no-defaults", "--user=root", f"--datadir={data}", "--skip-test-db"])
        options = ["--no-defaults", "--user=root", "--skip-grant-tables", "--bind-address=127.0.0.1"]
        places = [f"--datadir={data}", f"--port={self.database}", f"--socket={self.folder}/mariadb.sock"]
        names = [f"--pid-file={self.folder}/mariadbd.pid", f"--log-error={self.folder}/log/mariadbd.log"]
        run(["sh", "-c", 'exec "$@" &', "sh", "mariadbd", *options, *places, *names])
        self._listens(self.database)
        settings = self.folder / "slurmdbd.conf"
        settings.touch(0o600)
        settings.write_text(DAEMON.format(folder=self.folder, port=self.port, database=self.database))
        run(["slurmdbd"])
        self._listens(self.port)

    def register(self, run: Callable[[list[str]], None]) -> None:
        """Tells it of the cluster, before slurmctld starts."""
        run(["sacctmgr", "--immediate", "add", "cluster", "jobc"])

    def _listens(self, port: int) -> None:
        wanted = f"0100007F:{port:04X} 00000000:0000 0A"
        anywhere = f"00000000:{port:04X} 00000000:0000 0A"
        assert processes.until(
            lambda: any(line in Path("/proc/net/tcp").read_text() for line in (wanted, anywhere)), 60
        ), f"nothing listens on {port}; see {self.folder}/log"


def missing() -> str | None:
    """Why there can be no accounting here, with what helps."""
    path = f"{os.environ['PATH']}:/usr/sbin"
    if not all(shutil.which(name, path=path) for name in ("slurmdbd", "mariadbd", "mariadb-install-db")):
        return "slurmdbd and MariaDB are not installed: make engines"
    return None
