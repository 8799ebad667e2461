import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harkara_dlt import LinkKind, Whitelist, WhitelistError, find_links, unlisted_links

U, P, E = LinkKind.URL, LinkKind.PHONE, LinkKind.EMAIL

FOUND = [
    ("See https://shop.example.in/a?b=1. Thanks", [(U, "https://shop.example.in/a?b=1", "shop.example.in/a?b=1")]),
    ("(HTTP://Shop.Example.IN)", [(U, "HTTP://Shop.Example.IN", "shop.example.in")]),
    ("bit.ly/x, now", [(U, "bit.ly/x", "bit.ly/x")]),
    ("go to example.in!", [(U, "example.in", "example.in")]),
    ("EXAMPLE.COM", [(U, "EXAMPLE.COM", "example.com")]),
    ("click:evil.com -evil.com ..evil.com", [(U, "evil.com", "evil.com")] * 3),
    ("https://good.in@evil.com/x", [(U, "https://good.in@evil.com/x", "evil.com/x")]),
    ("https://good.in:443@evil.com", [(U, "https://good.in:443@evil.com", "evil.com")]),
    ("https://good.in:8443/x", [(U, "https://good.in:8443/x", "good.in/x")]),
    ("https://good.in?next=1", [(U, "https://good.in?next=1", "good.in/?next=1")]),
    ("http://10.0.0.1/x 10.0.0.1/x", [(U, "http://10.0.0.1/x", "10.0.0.1/x"), (U, "10.0.0.1/x", "10.0.0.1/x")]),
    ("market://details?id=in.example", [(U, "market://details?id=in.example", "details/?id=in.example")]),
    ("https://wa.me/919876543210", [(U, "https://wa.me/919876543210", "wa.me/919876543210")]),
    ("उदाहरण.com/x", [(U, "उदाहरण.com/x", "उदाहरण.com/x")]),
    ("mail Care@Example.in.", [(E, "Care@Example.in", "care@example.in")]),
    ("call 1800-123-4567 now", [(P, "1800-123-4567", "18001234567")]),
    ("call 9876543210.", [(P, "9876543210", "9876543210")]),
    ("98765 43210 or 987-654-3210", [(P, "98765 43210", "9876543210"), (P, "987-654-3210", "9876543210")]),
    ("+91 98765-43210 12", [(P, "+91 98765-43210", "9876543210")]),
    ("919876543210 09876543210", [(P, "919876543210", "9876543210"), (P, "09876543210", "9876543210")]),
    ("044-23456789 / +91 44 23456789", [(P, "044-23456789", "4423456789"), (P, "+91 44 23456789", "4423456789")]),
    ("+1 415 555 0100", [(P, "+1 415 555 0100", "14155550100")]),
    ("1600123456", [(P, "1600123456", "1600123456")]),
    ("123456 9876543210", [(P, "9876543210", "9876543210")]),
    # No calls to action:
    ("Your OTP is 482913.", []),
    ("Ref.no 12, Sr.No.5, Rs.500.00 on 12.10.2024 at 10.30 a.m.", []),
    ("Thank you.Please pay.In case of doubt ask Mr.Kumar", []),
    ("kya.hai? 1.2.3.4 v1.2.3 50.5/kg", []),
    ("pay to asha@okbank", []),
    ("txn 100000123456 on 8-10-2024 123", []),
    ("A1234567890 9876543210X", []),
    ("", []),
]


@pytest.mark.parametrize(("text", "expected"), FOUND, ids=[text for text, _ in FOUND])
def test_find_links(text: str, expected: list[tuple[LinkKind, str, str]]) -> None:
    found = find_links(text)
    assert [(link.kind, link.text, link.target) for link in found] == expected
    assert all(text[link.start : link.end] == link.text for link in found)


WHITELIST = Whitelist(
    [
        ("url_prefix", "https://short.in/t/"),
        ("url_prefix", "https://short.in/offer"),
        ("url_prefix", " go.example.org "),
        ("domain", "Example.in"),
        ("domain", "https://pay.test.in/ignored"),
        ("phone", "+91 98765 43210"),
        ("phone", "1800 123 4567"),
        ("email", "Care@Mail.in"),
    ]
)


@pytest.mark.parametrize(
    "text",
    [
        "https://example.in/any?x=1",
        "http://www.a.EXAMPLE.in",
        "pay.test.in/x",
        "https://short.in/t/abc",
        "short.in/t",
        "https://short.in/offer-5",
        "https://go.example.org/x",
        "9876543210, 09876543210, 91 9876543210",
        "18001234567",
        "care@mail.in or any@example.in",
        "nothing here",
    ],
)
def test_registered_links_pass(text: str) -> None:
    assert unlisted_links(text, WHITELIST) == []


@pytest.mark.parametrize(
    "text",
    [
        "https://notexample.in",
        "https://example.in.evil.com",
        "https://example.in@evil.com",
        "https://evil.com/example.in",
        "https://evil.com?x=https://example.in",
        "evil.com#example.in/x",
        "https://short.in/x",
        "https://short.in/T/abc",
        "https://www.short.in/t/abc",
        "9876543211",
        "1800 123 4568",
        "care@mail.in.evil.com",
        "other@mail.in",
        "x@sub.example.in",
    ],
)
def test_other_links_are_told(text: str) -> None:
    assert unlisted_links(text, WHITELIST)


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("domain", "com"),
        ("domain", "*.example.in"),
        ("domain", "two words.in"),
        ("url_prefix", "https://"),
        ("phone", "12"),
        ("phone", "call me 98765"),
        ("email", "example.in"),
        ("website", "example.in"),
    ],
)
def test_entries_that_could_never_match_are_refused(kind: str, value: str) -> None:
    with pytest.raises(WhitelistError, match=r"Give|whitelist entry"):
        Whitelist([(kind, value)])


@given(st.text("a.:/@in5 -", max_size=80))
def test_finds_are_in_order_and_apart(text: str) -> None:
    end = 0
    for link in find_links(text):
        assert end <= link.start < link.end <= len(text)
        assert text[link.start : link.end] == link.text
        end = link.end


@given(st.text("ab c,", max_size=20), st.text("ab c,", max_size=20))
def test_an_address_is_found_wherever_it_stands(before: str, after: str) -> None:
    text = f"{before} https://evil.com/x {after}"
    assert [link.target for link in find_links(text)] == ["evil.com/x"]


HOSTILE = [
    "a",
    "a-",
    "a.",
    ".a-",
    "a@",
    "a.b@",
    "a://",
    "1 ",
    "+1-",
    "98765-",
    "1800-12-",
    "a.b/",
    "9876543210 a.in ",
    "क्ष",
]


@pytest.mark.parametrize("unit", HOSTILE)
def test_time_is_linear_in_the_text(unit: str) -> None:
    def cpu_time_s(characters: int) -> float:
        text = unit * (characters // len(unit)) + " a.b 12345678"  # so that no shortcut is taken
        times = []
        for _ in range(3):
            start = time.process_time()
            find_links(text)
            times.append(time.process_time() - start)
        return min(times)

    # Eight times the text: 64 times the work if it were quadratic.
    assert cpu_time_s(80_000) < 24 * max(cpu_time_s(10_000), 0.0005)
