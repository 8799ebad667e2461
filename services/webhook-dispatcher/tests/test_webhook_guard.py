import asyncio
import socket

import pytest

from harkara_webhook_dispatcher.guard import AddressRefusedError, Guard, open_public_socket, refusal

REFUSED = {
    "0.0.0.0": "this network",
    "10.1.2.3": "private",
    "100.64.0.1": "shared by a carrier's NAT",
    "100.127.255.255": "shared by a carrier's NAT",
    "127.0.0.1": "loopback",
    "127.255.255.254": "loopback",
    "169.254.169.254": "link-local",
    "172.16.0.1": "private",
    "172.31.255.255": "private",
    "192.0.0.8": "reserved",
    "192.0.2.1": "for documentation",
    "192.88.99.1": "6to4",
    "192.168.1.1": "private",
    "198.18.0.1": "for benchmarks",
    "198.51.100.7": "for documentation",
    "203.0.113.7": "for documentation",
    "224.0.0.1": "multicast",
    "239.255.255.250": "multicast",
    "240.0.0.1": "reserved",
    "255.255.255.255": "reserved",
    "::": "an IPv4 address in disguise",
    "::1": "loopback",
    "::ffff:127.0.0.1": "an IPv4 address in disguise",
    "::ffff:8.8.8.8": "an IPv4 address in disguise",
    "::127.0.0.1": "an IPv4 address in disguise",
    "64:ff9b::7f00:1": "NAT64",
    "64:ff9b:1::a00:1": "NAT64",
    "100::1": "reserved",
    "2001::1": "reserved",
    "2001:db8::1": "for documentation",
    "2002:7f00:1::1": "6to4",
    "3fff::1": "for documentation",
    "4000::1": "reserved",
    "5f00::1": "reserved",
    "fc00::1": "unique local",
    "fd12:3456::1": "unique local",
    "fe80::1": "link-local",
    "fe80::1%eth0": "link-local",
    "fec0::1": "site-local",
    "ff02::1": "multicast",
}
ALLOWED = [
    "1.1.1.1",
    "8.8.8.8",
    "100.63.255.255",
    "100.128.0.1",
    "172.15.255.255",
    "172.32.0.1",
    "192.167.255.255",
    "223.255.255.255",
    "2001:4860:4860::8888",
    "2606:4700::1111",
    "2a00::1",
]


@pytest.mark.parametrize(("address", "words"), REFUSED.items())
def test_an_address_that_is_not_public_is_refused(address: str, words: str) -> None:
    assert refusal(address) == words


@pytest.mark.parametrize("address", ALLOWED)
def test_a_public_address_is_let_through(address: str) -> None:
    assert refusal(address) is None


async def test_a_name_of_this_machine_is_refused_and_let_through_in_the_sandbox() -> None:
    strict, sandbox = Guard(sandbox=False), Guard(sandbox=True)
    with pytest.raises(AddressRefusedError, match="not public") as caught:
        await strict.resolve("localhost", 443)
    assert "127.0.0.1" not in str(caught.value)
    assert {found[4][:2] for found in await sandbox.resolve("localhost", 80)} <= {("127.0.0.1", 80), ("::1", 80)}
    strict.close()
    sandbox.close()


async def test_one_private_address_among_public_ones_refuses_the_name(monkeypatch: pytest.MonkeyPatch) -> None:
    def answers(*_: object, **__: object) -> list[object]:
        kind = socket.SOCK_STREAM
        return [
            (socket.AF_INET, kind, 6, "", ("8.8.8.8", 0)),
            (socket.AF_INET6, kind, 6, "", ("fd00::1", 0, 0, 0)),
        ]

    monkeypatch.setattr(socket, "getaddrinfo", answers)
    guard = Guard(sandbox=False)
    with pytest.raises(AddressRefusedError, match="unique local"):
        await guard.resolve("mixed.example.com", 443)
    guard.close()


async def test_a_name_is_looked_up_once_for_all_who_ask_and_again_after_a_failure(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[object] = []
    found = [(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", ("8.8.8.8", 443))]

    def answers(host: str, *_: object, **__: object) -> list[object]:
        asked.append(host)
        if len(asked) == 1:
            raise socket.gaierror
        return list(found)

    monkeypatch.setattr(socket, "getaddrinfo", answers)
    guard = Guard(sandbox=False)
    with pytest.raises(socket.gaierror):
        await guard.resolve("hooks.example.com", 443)
    await asyncio.sleep(0)
    assert await asyncio.gather(*(guard.resolve("hooks.example.com", 443) for _ in range(3))) == [found] * 3
    assert len(asked) == 2
    guard.close()


def test_the_socket_is_the_last_gate() -> None:
    with pytest.raises(AddressRefusedError):
        open_public_socket((socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", ("169.254.169.254", 443)))
    with open_public_socket((socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", ("8.8.8.8", 443))) as made:
        assert made.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) != 0
