"""How much a stack's home holds on the disk."""

import os
from pathlib import Path

_MIB = 1024 * 1024
_SECTOR = 512


def disk_mib(home: Path) -> dict[str, float]:
    """MiB by part: NATS' store, the tables, the log of the database (which is used again and again), and log files."""
    postgres = (home / "postgres").resolve() / "data"
    return {
        "NATS store": size_mib(home / "nats"),
        "Postgres tables": size_mib(postgres / "base"),
        "Postgres WAL": size_mib(postgres / "pg_wal"),
        "logs": size_mib(home / "logs"),
    }


def size_mib(path: Path) -> float:
    """What the files below take on the disk; those that vanish meanwhile count nothing."""
    total = 0
    for folder, _, names in os.walk(path):
        for name in names:
            try:
                total += os.lstat(Path(folder, name)).st_blocks * _SECTOR
            except OSError:
                continue
    return total / _MIB
