"""Whose word counts on where a request comes from, and how addresses are counted.

Each proxy writes the address it was called from at the right end of X-Forwarded-For; everything left of what a trusted
proxy wrote may be the client's own invention. So the right-most address that is no trusted proxy's is the client's.
"""

import ipaddress
from functools import lru_cache

from harkara_ingress.access.addresses import AllowList, network

_PREFIX_BITS = 64
_LONGEST_HOP = 64


class TrustedProxies:
    """The proxies in front of the edge."""

    def __init__(self, networks: str) -> None:
        """Take addresses and networks, comma separated.

        Raises:
            ValueError: one of them is neither.
        """
        self._networks = AllowList([network(each.strip()) for each in networks.split(",") if each.strip()])

    def trusts(self, host: str) -> bool:
        # A list without networks would let everybody in.
        return bool(self._networks) and self._networks.allows(host)

    def client_of(self, peer: str, headers: list[tuple[bytes, bytes]]) -> str:
        """Return the client's address.

        Args:
            peer: the address at the other end of the connection.
            headers: of the request, names in lower case, repeated ones in their order.
        """
        if not self.trusts(peer):
            return peer
        lines = [value for name, value in headers if name == b"x-forwarded-for"]
        client = peer
        for hop in reversed(b",".join(lines).decode("latin-1").split(",")):
            host = _host_of(hop.strip())
            if host is None:
                break  # what a proxy of ours cannot have written ends the part that is believed
            client = host
            if not self._networks.allows(host):
                break
        return client


def _host_of(hop: str) -> str | None:
    """Read `address`, `address:port` or `[address]:port`."""
    if len(hop) > _LONGEST_HOP:
        return None
    host = hop
    if hop.startswith("["):
        host = hop[1:].partition("]")[0]
    elif hop.count(":") == 1:
        host = hop.partition(":")[0]
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return None
    return host


@lru_cache(maxsize=4_096)
def counted_as(host: str) -> str:
    """Return the name an address is counted under: an IPv6 client has a whole /64 to choose its address from."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host
    if isinstance(address, ipaddress.IPv4Address):
        return host
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(ipaddress.ip_network((address, _PREFIX_BITS), strict=False))
