"""Machines on one machine: network namespaces whose cables can be pulled, so that a partition is a real one.

Each place has two cables: by one the host and its clients come (10.201.x.n), by the other the places speak to each other
(10.202.x.n). Needs root and `ip`. What a killed run left behind is removed by the next: names carry their maker's pid.
"""

import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

_NAME = re.compile(r"\bhkr(\d+)[cpn]\d*\b")
_SUBNETS = range(1, 250)


class Cable(StrEnum):
    """Which way out of a place."""

    CLIENTS = "c"
    PEERS = "p"


@dataclass(frozen=True)
class Place:
    """One namespace and its addresses."""

    name: str
    client_address: str
    peer_address: str


class Network:
    """Places that are joined while their cables are in."""

    def __init__(self, count: int) -> None:
        self._prefix = f"hkr{os.getpid()}"
        self._subnet = _free_subnet()
        self.places = [
            Place(f"{self._prefix}n{n}", f"10.201.{self._subnet}.{n}", f"10.202.{self._subnet}.{n}")
            for n in range(1, count + 1)
        ]

    def make(self) -> None:
        for cable in Cable:
            bridge = f"{self._prefix}{cable}"
            _ip("link", "add", bridge, "type", "bridge")
            _ip("link", "set", bridge, "up")
        _ip("addr", "add", f"10.201.{self._subnet}.254/24", "dev", f"{self._prefix}{Cable.CLIENTS}")
        for place in self.places:
            _ip("netns", "add", place.name)
            _ip("-n", place.name, "link", "set", "lo", "up")
            for cable, address in ((Cable.CLIENTS, place.client_address), (Cable.PEERS, place.peer_address)):
                outside = self._outside(place, cable)
                _ip("link", "add", outside, "type", "veth", "peer", "name", cable.name, "netns", place.name)
                _ip("link", "set", outside, "master", f"{self._prefix}{cable}", "up")
                _ip("-n", place.name, "addr", "add", f"{address}/24", "dev", cable.name)
                _ip("-n", place.name, "link", "set", cable.name, "up")

    def pull(self, place: Place, cables: Sequence[Cable] = tuple(Cable)) -> None:
        """Cut a place off; whoever speaks to it hears nothing, not even that it is gone."""
        for cable in cables:
            _ip("link", "set", self._outside(place, cable), "down")

    def plug_in(self, place: Place) -> None:
        for cable in Cable:
            _ip("link", "set", self._outside(place, cable), "up")

    def remove(self) -> None:
        _remove(self._prefix)

    def _outside(self, place: Place, cable: Cable) -> str:
        return f"{self._prefix}{cable}{place.name.removeprefix(f'{self._prefix}n')}"


def can_make_networks() -> bool:
    """Tell whether this user on this machine may."""
    if os.geteuid() != 0 or shutil.which("ip") is None:
        return False
    name = f"hkr{os.getpid()}n0"
    if subprocess.run(["ip", "netns", "add", name], capture_output=True, check=False).returncode:  # noqa: S603, S607
        return False
    _ip("netns", "del", name)
    return True


@contextmanager
def made_network(count: int) -> Iterator[Network]:
    """Make a network of so many places, and remove it after; what runs in it must have ended by then."""
    _remove_what_the_dead_left()
    network = Network(count)
    try:
        network.make()
        yield network
    finally:
        network.remove()


def _remove_what_the_dead_left() -> None:
    for pid in {match[1] for match in _NAME.finditer(_everything())}:
        if not Path(f"/proc/{pid}").exists():
            _remove(f"hkr{pid}")


def _remove(prefix: str) -> None:
    everything = _everything()
    for name in sorted(set(re.findall(rf"\b{prefix}n\d+\b", everything))):
        _ip("netns", "del", name)
    # A cable goes with either of its ends; those of the places are gone by now, or about to be.
    for name in sorted(set(re.findall(rf"\b{prefix}[cp]\d*\b", everything))):
        subprocess.run(["ip", "link", "del", name], capture_output=True, check=False)  # noqa: S603, S607


def _everything() -> str:
    return _ip("netns", "list") + _ip("-o", "link", "show")


def _free_subnet() -> int:
    taken = _ip("-o", "-4", "addr", "show")
    return next(number for number in _SUBNETS if f"10.201.{number}." not in taken)


def _ip(*words: str) -> str:
    done = subprocess.run(["ip", *words], capture_output=True, text=True, check=False)  # noqa: S603, S607
    if done.returncode:
        raise OSError(f"ip {' '.join(words)}: {done.stderr.strip()}")
    return done.stdout
