"""The addresses an account lets in: IPv4 and IPv6 networks, as it lists them (CIDR).

An IPv4 caller may reach a dual-stack socket as `::ffff:a.b.c.d` (RFC 4291 §2.5.5.2); it is the IPv4 address it maps, in a
list and on the wire alike.
"""

import ipaddress
import re
from collections.abc import Iterable
from functools import lru_cache

_V4_MAPPED = ipaddress.IPv6Network("::ffff:0:0/96")
# Only a prefix length is taken behind the slash: of a netmask and a wildcard mask one is easily meant and the other read.
_FORM = re.compile(r"[0-9A-Fa-f.:]{2,45}(?:/(0|[1-9][0-9]{0,2}))?", re.ASCII)

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def network(text: str) -> str:
    """Read one entry of a list; return it in its shortest form, a single address as /32 or /128.

    Raises:
        ValueError: it is no network; the words tell how to mend it.
    """
    found = _FORM.fullmatch(text)
    if found is None:
        raise ValueError("an IPv4 or IPv6 network is meant, such as 203.0.113.0/24, 2001:db8::/32 or 203.0.113.7")
    try:
        given = ipaddress.ip_interface(text)
    except ValueError:
        raise ValueError(
            "this is no IPv4 or IPv6 network: four numbers up to 255 without leading zeros and a prefix up to /32,"
            " or groups of hexadecimal digits and a prefix up to /128"
        ) from None
    if given.ip != given.network.network_address:
        alone = f"{given.ip}/{given.max_prefixlen}"
        raise ValueError(f"the address has bits beyond its prefix: write {given.network} for the network, or {alone}")
    return str(_unmapped(given.network))


def _unmapped(given: Network) -> Network:
    if isinstance(given, ipaddress.IPv6Network) and given.subnet_of(_V4_MAPPED):
        mapped = given.network_address.ipv4_mapped
        if mapped is not None:
            return ipaddress.IPv4Network((mapped, given.prefixlen - _V4_MAPPED.prefixlen))
    return given


class AllowList:
    """Networks, asked whether one of them has an address. No network at all means every address."""

    def __init__(self, networks: Iterable[str]) -> None:
        # By version and prefix, so that a look-up takes as many steps as there are lengths, not networks.
        self._starts: dict[tuple[int, int], set[int]] = {}
        for each in map(ipaddress.ip_network, networks):
            shift = each.max_prefixlen - each.prefixlen
            self._starts.setdefault((each.version, shift), set()).add(int(each.network_address) >> shift)

    def __bool__(self) -> bool:
        return bool(self._starts)

    def allows(self, host: str) -> bool:
        """Say whether an address may come in; what is no address may only where every address may."""
        if not self._starts:
            return True
        address = _address(host)
        if address is None:
            return False
        version, number = address
        return any(of == version and number >> shift in starts for (of, shift), starts in self._starts.items())


@lru_cache(maxsize=4_096)
def _address(host: str) -> tuple[int, int] | None:
    try:
        address: Address = ipaddress.ip_address(host)
    except ValueError:
        return None
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    return address.version, int(address)
