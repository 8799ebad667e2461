"""Whose word counts on where a request comes from."""

import pytest

from harkara_ingress.http.proxies import TrustedProxies, counted_as

PROXIES = TrustedProxies("10.0.0.0/8, 192.0.2.7, 2001:db8::/32")


@pytest.mark.parametrize(
    ("peer", "lines", "client"),
    [
        ("203.0.113.9", [], "203.0.113.9"),
        ("203.0.113.9", ["198.51.100.1"], "203.0.113.9"),  # a stranger's word on where it comes from
        ("10.1.1.1", ["198.51.100.1"], "198.51.100.1"),
        ("10.1.1.1", ["1.1.1.1, 198.51.100.1"], "198.51.100.1"),  # only the hop that our proxy saw
        ("10.1.1.1", ["1.1.1.1", "198.51.100.1"], "198.51.100.1"),
        ("10.1.1.1", ["198.51.100.1", "10.2.2.2"], "198.51.100.1"),
        ("10.1.1.1", ["1.1.1.1, 198.51.100.1, 192.0.2.7,10.2.2.2"], "198.51.100.1"),
        ("10.1.1.1", ["10.9.9.9, 10.2.2.2"], "10.9.9.9"),
        ("10.1.1.1", [], "10.1.1.1"),
        ("10.1.1.1", [""], "10.1.1.1"),
        ("10.1.1.1", ["198.51.100.1, unknown"], "10.1.1.1"),
        ("10.1.1.1", ["198.51.100.1, " + "9" * 10_000], "10.1.1.1"),
        ("10.1.1.1", ["198.51.100.1:4711"], "198.51.100.1"),
        ("10.1.1.1", ["[2001:db9::1]:4711"], "2001:db9::1"),
        ("10.1.1.1", ["2001:db9::1"], "2001:db9::1"),
        ("2001:db8::5", ["198.51.100.1"], "198.51.100.1"),
        ("::ffff:10.1.1.1", ["198.51.100.1"], "198.51.100.1"),
        ("", ["198.51.100.1"], ""),
    ],
)
def test_the_client_is_the_last_hop_that_is_no_proxy_of_ours(peer: str, lines: list[str], client: str) -> None:
    headers = [(b"host", b"x"), *((b"x-forwarded-for", line.encode()) for line in lines)]
    assert PROXIES.client_of(peer, headers) == client


def test_without_proxies_nobody_is_believed() -> None:
    nobody = TrustedProxies("")
    assert not nobody.trusts("127.0.0.1")
    assert nobody.client_of("127.0.0.1", [(b"x-forwarded-for", b"198.51.100.1")]) == "127.0.0.1"


@pytest.mark.parametrize("networks", ["*", "proxy.example", "10.0.0.1/8", "10.0.0.0/33"])
def test_what_is_no_network_is_told_at_once(networks: str) -> None:
    with pytest.raises(ValueError, match=r"network|prefix|address"):
        TrustedProxies(networks)


def test_an_address_of_ipv6_counts_with_its_neighbours() -> None:
    assert counted_as("198.51.100.1") == "198.51.100.1"
    assert counted_as("::ffff:198.51.100.1") == "198.51.100.1"
    assert counted_as("2001:db8:1:2:3::4") == counted_as("2001:db8:1:2::9") == "2001:db8:1:2::/64"
    assert counted_as("2001:db8:1:3::9") != counted_as("2001:db8:1:2::9")
    assert counted_as("no address") == "no address"
