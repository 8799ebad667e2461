"""The way out to addresses that clients chose: only to the public internet.

A name is resolved once, every address it has is looked at, and one that is not public refuses the whole name. The
connection is then made to the very addresses that were looked at, the name staying in SNI and Host; so a name that points
elsewhere a moment later gains nothing. The socket itself is the last gate: it also sees addresses written into the URL.
"""

import asyncio
import ipaddress
import socket
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache

from aiohappyeyeballs import AddrInfoType

_RESOLVER_THREADS = 32
"""A name server that does not answer holds a thread for many seconds; others' names must not wait for it."""

_ADDRESSES_MAX = 16
_FOUND_FOR_S = 30.0

_REFUSED = tuple(
    (ipaddress.ip_network(network), words)
    for network, words in (
        # IANA IPv4 Special-Purpose Address Registry
        ("0.0.0.0/8", "this network"),
        ("10.0.0.0/8", "private"),
        ("100.64.0.0/10", "shared by a carrier's NAT"),
        ("127.0.0.0/8", "loopback"),
        ("169.254.0.0/16", "link-local"),
        ("172.16.0.0/12", "private"),
        ("192.0.0.0/24", "reserved"),
        ("192.0.2.0/24", "for documentation"),
        ("192.31.196.0/24", "reserved"),
        ("192.52.193.0/24", "reserved"),
        ("192.88.99.0/24", "6to4"),
        ("192.168.0.0/16", "private"),
        ("192.175.48.0/24", "reserved"),
        ("198.18.0.0/15", "for benchmarks"),
        ("198.51.100.0/24", "for documentation"),
        ("203.0.113.0/24", "for documentation"),
        ("224.0.0.0/4", "multicast"),
        ("240.0.0.0/4", "reserved"),
        # IANA IPv6 Special-Purpose Address Registry; what lies outside 2000::/3 is refused below in any case, these
        # lines give it a name.
        ("::1/128", "loopback"),
        ("::ffff:0:0/96", "an IPv4 address in disguise"),
        ("::/96", "an IPv4 address in disguise"),
        ("64:ff9b::/96", "NAT64"),
        ("64:ff9b:1::/48", "NAT64"),
        ("fc00::/7", "unique local"),
        ("fe80::/10", "link-local"),
        ("fec0::/10", "site-local"),
        ("ff00::/8", "multicast"),
        ("2001::/23", "reserved"),
        ("2001:db8::/32", "for documentation"),
        ("2002::/16", "6to4"),
        ("2620:4f:8000::/48", "reserved"),
        ("3fff::/20", "for documentation"),
    )
)
_GLOBAL_UNICAST = ipaddress.ip_network("2000::/3")


class AddressRefusedError(OSError):
    """The address is not one a webhook may go to. The text names the kind, not the address: clients read it."""


@lru_cache(maxsize=4096)
def refusal(address: str) -> str | None:
    """Return why an IP address may not be connected to, None if it may.

    Raises:
        ValueError: the text is no IP address.
    """
    parsed = ipaddress.ip_address(address)
    for network, words in _REFUSED:
        if parsed.version == network.version and parsed in network:
            return words
    return "reserved" if parsed.version == 6 and parsed not in _GLOBAL_UNICAST else None  # noqa: PLR2004  # IPv6


def require_public(addresses: Sequence[str]) -> None:
    """Raise AddressRefusedError if any of the addresses is not public."""
    for address in addresses:
        if words := refusal(address):
            raise AddressRefusedError(f"the URL's host has an address that is not public ({words})")


class Guard:
    """Tells where a host is, and makes the sockets; both let only what is public through, unless `sandbox`.

    Names are resolved in threads of its own. What was found is good for `_FOUND_FOR_S`, and calls that come meanwhile
    wait for the same look-up.
    """

    def __init__(self, *, sandbox: bool) -> None:
        self._sandbox = sandbox
        self._threads = ThreadPoolExecutor(_RESOLVER_THREADS, thread_name_prefix="webhook-resolver")
        self._found: dict[tuple[str, int], asyncio.Future[list[AddrInfoType]]] = {}

    async def resolve(self, host: str, port: int) -> list[AddrInfoType]:
        """Return the addresses of a host, all of them looked at.

        Raises:
            AddressRefusedError: one is not public.
            socket.gaierror, UnicodeError: the name has none, or cannot be a name.
        """
        key = (host, port)
        looking = self._found.get(key)
        if looking is None:
            looking = self._found[key] = asyncio.ensure_future(self._look_up(host, port))
            looking.add_done_callback(lambda done: self._keep(key, done))
        return await asyncio.shield(looking)

    def open_socket(self, address: AddrInfoType) -> socket.socket:
        return open_socket(address) if self._sandbox else open_public_socket(address)

    def close(self) -> None:
        for looking in self._found.values():
            looking.cancel()
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def _look_up(self, host: str, port: int) -> list[AddrInfoType]:
        addresses = await asyncio.get_running_loop().run_in_executor(self._threads, _addresses, host, port)
        if not self._sandbox:
            require_public([str(place[0]) for *_, place in addresses])
        return addresses[:_ADDRESSES_MAX]

    def _keep(self, key: tuple[str, int], done: "asyncio.Future[list[AddrInfoType]]") -> None:
        """Forget a failure at once, and what was found in a while."""
        is_good = not done.cancelled() and done.exception() is None
        asyncio.get_running_loop().call_later(_FOUND_FOR_S if is_good else 0, self._found.pop, key, None)


def _addresses(host: str, port: int) -> list[AddrInfoType]:
    return list[AddrInfoType](socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP))


def open_public_socket(address: AddrInfoType) -> socket.socket:
    """Make the socket of a connection, if its address is public."""
    require_public([str(address[4][0])])
    return open_socket(address)


def open_socket(address: AddrInfoType) -> socket.socket:
    """Make the socket of a connection; small writes leave at once."""
    family, kind, protocol = address[:3]
    made = socket.socket(family=family, type=kind, proto=protocol)
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return made
