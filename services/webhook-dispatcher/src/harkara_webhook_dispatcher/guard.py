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

from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.connector import AddrInfoType

_RESOLVER_THREADS = 32
"""A name server that does not answer holds a thread for many seconds; others' names must not wait for it."""

_ADDRESSES_MAX = 16

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


class GuardedResolver(AbstractResolver):
    """Resolves names in threads of its own and lets only wholly public ones through, unless `sandbox`."""

    def __init__(self, *, sandbox: bool) -> None:
        self._sandbox = sandbox
        self._threads = ThreadPoolExecutor(_RESOLVER_THREADS, thread_name_prefix="webhook-resolver")

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        addresses = await asyncio.get_running_loop().run_in_executor(self._threads, _addresses, host, family)
        if not self._sandbox:
            require_public([address for _, address in addresses])
        return [
            ResolveResult(
                hostname=host,
                host=address,
                port=port,
                family=kind,
                proto=socket.IPPROTO_TCP,
                flags=socket.AI_NUMERICHOST | socket.AI_NUMERICSERV,
            )
            for kind, address in addresses[:_ADDRESSES_MAX]
        ]

    async def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)


def _addresses(host: str, family: int) -> list[tuple[socket.AddressFamily, str]]:
    found = socket.getaddrinfo(host, None, family=family, type=socket.SOCK_STREAM)
    return [(kind, str(place[0])) for kind, _, _, _, place in found]


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
