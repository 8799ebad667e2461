"""Networks as people write them, and the addresses that are in them."""

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harkara_ingress.access.addresses import AllowList, network

V4 = st.ip_addresses(v=4)
V6 = st.ip_addresses(v=6)


@st.composite
def networks(draw: st.DrawFn) -> ipaddress.IPv4Network | ipaddress.IPv6Network:
    address = draw(st.one_of(V4, V6))
    return ipaddress.ip_interface(f"{address}/{draw(st.integers(0, address.max_prefixlen))}").network


@pytest.mark.parametrize(
    ("written", "means"),
    [
        ("203.0.113.0/24", "203.0.113.0/24"),
        ("203.0.113.7", "203.0.113.7/32"),
        ("0.0.0.0/0", "0.0.0.0/0"),
        ("2001:DB8:0:0::/32", "2001:db8::/32"),
        ("2001:db8::1", "2001:db8::1/128"),
        ("::/0", "::/0"),
        ("::ffff:203.0.113.7", "203.0.113.7/32"),
        ("::ffff:203.0.113.0/120", "203.0.113.0/24"),
        ("::ffff:0:0/96", "0.0.0.0/0"),
    ],
)
def test_a_network_has_one_form(written: str, means: str) -> None:
    assert network(written) == means


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ("", "is meant, such as"),
        ("everywhere", "is meant, such as"),
        ("203.0.113.0/255.255.255.0", "is meant, such as"),
        ("203.0.113.0/0.0.0.255", "is meant, such as"),
        ("203.0.113.0/024", "is meant, such as"),
        ("203.0.113.0/+24", "is meant, such as"),
        (" 203.0.113.0/24", "is meant, such as"),
        ("203.0.113.0/24\n", "is meant, such as"),
        ("fe80::1%eth0", "is meant, such as"),
        ("٢.0.113.0/24", "is meant, such as"),
        ("203.0.113.256", "no IPv4 or IPv6 network"),
        ("203.0.113", "no IPv4 or IPv6 network"),
        ("010.0.0.1", "no IPv4 or IPv6 network"),
        ("203.0.113.0/33", "no IPv4 or IPv6 network"),
        ("2001:db8::/129", "no IPv4 or IPv6 network"),
        ("2001:db8:::", "no IPv4 or IPv6 network"),
        ("203.0.113.7/24", "write 203.0.113.0/24 for the network, or 203.0.113.7/32"),
        ("2001:db8::5/32", "write 2001:db8::/32 for the network, or 2001:db8::5/128"),
    ],
)
def test_what_is_no_network_is_told_how_to_become_one(wrong: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        network(wrong)


@given(networks())
def test_every_network_can_be_written(given_network: ipaddress.IPv4Network | ipaddress.IPv6Network) -> None:
    assert network(network(str(given_network))) == network(str(given_network))


@given(st.lists(networks(), max_size=8), st.one_of(V4, V6))
def test_an_address_is_in_a_list_if_it_is_in_one_of_its_networks(
    listed: list[ipaddress.IPv4Network | ipaddress.IPv6Network],
    address: ipaddress.IPv4Address | ipaddress.IPv6Address,
) -> None:
    written = [network(str(each)) for each in listed]
    mapped = getattr(address, "ipv4_mapped", None) or address
    expected = not listed or any(mapped in ipaddress.ip_network(each) for each in written)
    assert AllowList(written).allows(str(address)) is expected
    assert bool(AllowList(written)) is bool(listed)


@given(networks(), st.data())
def test_every_address_of_a_network_is_in_it(
    listed: ipaddress.IPv4Network | ipaddress.IPv6Network, data: st.DataObject
) -> None:
    allow_list = AllowList([network(str(listed))])
    last = int(listed.broadcast_address)
    number = data.draw(st.integers(int(listed.network_address), last))
    inside = type(listed.network_address)(number)
    v4_inside_v6 = listed.version == 6 and getattr(inside, "ipv4_mapped", None) and listed.prefixlen < 96
    assert allow_list.allows(str(inside)) is not bool(v4_inside_v6)
    if last < 2**listed.max_prefixlen - 1 and listed.version == 4:
        assert not allow_list.allows(str(ipaddress.IPv4Address(last + 1)))


@given(V4)
def test_an_ipv4_caller_counts_as_one_however_it_arrives(address: ipaddress.IPv4Address) -> None:
    for written in (f"{address}", f"::ffff:{address}"):
        allow_list = AllowList([network(written)])
        assert allow_list.allows(str(address))
        assert allow_list.allows(f"::ffff:{address}")
    assert not AllowList(["::/0"]).allows(f"::ffff:{address}")


@pytest.mark.parametrize("host", ["", "testclient", "203.0.113.300", "/run/edge.sock"])
def test_what_is_no_address_comes_in_only_where_everybody_does(host: str) -> None:
    assert AllowList([]).allows(host)
    assert not AllowList(["0.0.0.0/0", "::/0"]).allows(host)
