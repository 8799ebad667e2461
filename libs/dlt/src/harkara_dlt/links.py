"""Calls to action: web addresses, telephone numbers and e-mail addresses anywhere in a text, and the whitelist.

Operators refuse a text with a link that its principal entity has not registered, whether it stands in fixed text or in
a variable. Finding leans to what a handset would make tappable: anything with a scheme, a domain with a common ending
or a path, ten-digit mobiles, toll-free and fixed lines. Every pattern has bounded pieces, so time is linear.
"""

import re
from collections.abc import Iterable
from enum import StrEnum
from typing import Final, NamedTuple

# Endings that make a domain without scheme or path. Those that end Indian abbreviations ("Ref.no", "Order.id") or
# sentences ("today", "it") are left out: a false find stops an honest message, a missed one the operator still stops.
_COMMON_ENDINGS: Final = frozenset(
    re.findall(
        r"\w+",
        """com in net org co io info biz me uk eu ai app dev gov edu ly gl gg tv cc ws sh link page site online store shop
        xyz top club live click icu vip win bid loan cloud digital tech mobi asia ru cn hk sg ae tk ga cf gq apk""",
    )
)
# Letters and digits with the vowel signs of India's scripts, which are no word characters to `re` (dandas left out).
_WORD: Final = r"\w\u0900-\u0963\u0966-\u0dff"
_LABEL: Final = rf"[^\W_][{_WORD}-]{{0,62}}+"
_ADDRESS: Final = re.compile(
    rf"""(?<![{_WORD}])(?:
        (?P<scheme>[a-z][a-z0-9+-]{{1,19}}+)://(?P<rest>[^\s<>"]++)
      | (?P<mailbox>\w[\w.+%-]{{0,63}}+)@(?P<mail_host>{_LABEL}(?:\.{_LABEL})++)
      | (?P<host>{_LABEL}(?:\.{_LABEL})++)(?P<port>:[0-9]{{1,5}}+)?(?P<path>/[^\s<>"]*+|\?\w++=[^\s<>"]*+)?
    )""",
    re.VERBOSE | re.IGNORECASE,
)
# Whoever has none of these has no address: a dot before a letter, a mailbox, a scheme, a dotted number with a path.
_ADDRESS_HINT: Final = re.compile(r"\.[^\W\d_]|://|@|\.[0-9]{1,3}[:/]")
_PHONE: Final = re.compile(
    r"""(?<!\w)(?:
        \+(?!91)[0-9](?:[ -]?[0-9]){7,14}+
      | (?:\+?91[ -]?|0)?[6-9](?:[0-9]{9}|[0-9]{4}[ -][0-9]{5}|[0-9]{2}[ -][0-9]{3}[ -][0-9]{4}|[0-9]{3}[ -][0-9]{6}
            |[0-9]{3}[ -][0-9]{3}[ -][0-9]{3}|[0-9]{2}[ -][0-9]{7})
      | 18[06]0[ -]?(?:[0-9]{6,7}|[0-9]{2,4}[ -][0-9]{2,4}(?:[ -][0-9]{2,4})?)
      | (?:\+91[ -]?|0)[1-9][0-9]{1,3}[ -]?[0-9]{6,8}
      | 1[46]0[0-9]{7}
    )(?!\w)""",
    re.VERBOSE,
)
_PHONE_HINT: Final = re.compile(r"[0-9](?:[ -]?[0-9]){7}")
_NOT_DIGITS: Final = bytes(set(range(256)) - set(b"0123456789"))
_FEWEST_DIGITS: Final = 8
_IPV4: Final = re.compile(r"[0-9]{1,3}(?:\.[0-9]{1,3}){3}")
_TRAILING: Final = ".,;:!?)]}'\"\u2019\u201d*_"


class LinkKind(StrEnum):
    URL = "url"
    PHONE = "phone"
    EMAIL = "email"


class Link(NamedTuple):
    """One call to action; `text` is `message[start:end]`."""

    kind: LinkKind
    text: str
    start: int
    end: int
    target: str
    """What the whitelist is asked for: host and path of a URL, digits of a number, an address in lower case."""


class WhitelistError(ValueError):
    """A whitelist entry that could never match."""


class Whitelist:
    """Registered calls to action; immutable, made once and kept.

    Args of the constructor are pairs of kind and value:
        `url_prefix`: an address; links on the same host whose path begins with its path pass.
        `domain`: a host; links on it and on its subdomains pass, and e-mail addresses at exactly it.
        `phone`: a number in any usual spelling.
        `email`: an address.
    """

    __slots__ = ("_domains", "_emails", "_phones", "_prefixes")

    def __init__(self, entries: Iterable[tuple[str, str]]) -> None:
        domains: set[str] = set()
        emails: set[str] = set()
        phones: set[str] = set()
        prefixes: dict[str, tuple[str, ...]] = {}
        for kind, value in entries:
            value = value.strip()  # noqa: PLW2901 - pasted entries come with white space
            if kind == "domain":
                domains.add(_checked_host(_host_and_path(_without_scheme(value))[0]))
            elif kind == "url_prefix":
                host, path = _host_and_path(_without_scheme(value))
                prefixes[_checked_host(host)] = (*prefixes.get(host, ()), path)
            elif kind == "phone":
                phones.add(_checked_phone(value))
            elif kind == "email":
                emails.add(_checked_email(value))
            else:
                raise WhitelistError("A whitelist entry is a url_prefix, domain, phone or email.")
        self._domains = frozenset(domains)
        self._emails = frozenset(emails)
        self._phones = frozenset(phones)
        self._prefixes = prefixes

    def lists(self, link: Link) -> bool:
        """Whether a registered entry covers the link."""
        if link.kind is LinkKind.PHONE:
            return link.target in self._phones
        if link.kind is LinkKind.EMAIL:
            return link.target in self._emails or link.target.rpartition("@")[2] in self._domains
        host, slash, path = link.target.partition("/")
        if any(_begins(slash + path, prefix) for prefix in self._prefixes.get(host, ())):
            return True
        while host:
            if host in self._domains:
                return True
            host = host.partition(".")[2]
        return False


def find_links(text: str) -> list[Link]:
    """Every call to action in `text`, in order of appearance."""
    links: list[Link] = []
    if _ADDRESS_HINT.search(text) is not None:
        links.extend(link for found in _ADDRESS.finditer(text) if (link := _read_address(found)) is not None)
    if not _has_number(text):
        return links
    # Digits inside an address belong to it, so numbers are looked for between the addresses.
    ends = [0, *(link.end for link in links)]
    starts = [*(link.start for link in links), len(text)]
    links.extend(
        Link(LinkKind.PHONE, found[0], found.start(), found.end(), _digits(found[0]))
        for end, start in zip(ends, starts, strict=True)
        for found in _PHONE.finditer(text, end, start)
    )
    links.sort(key=lambda link: link.start)
    return links


def _has_number(text: str) -> bool:
    # Most texts have a few digits only, and counting them is quicker than looking at how they stand.
    digits = text.encode(errors="replace").translate(None, _NOT_DIGITS)
    return len(digits) >= _FEWEST_DIGITS and _PHONE_HINT.search(text) is not None


def unlisted_links(text: str, whitelist: Whitelist) -> list[Link]:
    """The calls to action in `text` that the whitelist does not cover."""
    return [link for link in find_links(text) if not whitelist.lists(link)]


def _read_address(found: re.Match[str]) -> Link | None:
    if found["mailbox"]:
        address = found[0].lower()
        return Link(LinkKind.EMAIL, found[0], found.start(), found.end(), address)
    spelled = found[0].rstrip(_TRAILING) if found["scheme"] or found["path"] else found[0]
    if not found["scheme"] and not _looks_tappable(found):
        return None
    host, path = _host_and_path(_without_scheme(spelled))
    return Link(LinkKind.URL, spelled, found.start(), found.start() + len(spelled), host + path)


def _looks_tappable(found: re.Match[str]) -> bool:
    """Whether a domain without a scheme is one, and not two sentences without a space between them."""
    ending = found["host"].rpartition(".")[2]
    if found["path"] or found["port"]:
        return _IPV4.fullmatch(found["host"]) is not None or (
            len(ending) > 1 and ending.isalpha() and _one_case(ending)
        )
    return ending.lower() in _COMMON_ENDINGS and _one_case(ending)


def _one_case(ending: str) -> bool:
    return ending in {ending.lower(), ending.upper()}


def _without_scheme(address: str) -> str:
    return address.partition("://")[2] if "://" in address else address


def _host_and_path(address: str) -> tuple[str, str]:
    """Host in lower case, and path with its leading slash (query and fragment included), of `host[:port][/path]`."""
    end = min((place for sign in "/?#\\" if (place := address.find(sign)) >= 0), default=len(address))
    host = address[:end].rpartition("@")[2].lower()
    host = host.rpartition(":")[0] if ":" in host and not host.endswith("]") else host
    path = address[end:]
    return host.rstrip("."), path if path.startswith("/") or not path else f"/{path}"


def _begins(path: str, prefix: str) -> bool:
    return path.startswith(prefix) or path == prefix.rstrip("/")


def _digits(number: str) -> str:
    """The digits by which two spellings of one Indian number are equal: without country code and trunk zero."""
    digits = re.sub(r"[^0-9]", "", number)
    if number.startswith("+"):
        return digits.removeprefix("91")
    if len(digits) == 12 and digits.startswith("91"):  # noqa: PLR2004 - country code and ten digits
        return digits[2:]
    return digits.lstrip("0")


def _checked_host(host: str) -> str:
    if not re.fullmatch(rf"{_LABEL}(?:\.{_LABEL})+", host):
        raise WhitelistError("Give a domain such as example.com, without spaces or wildcards.")
    return host


def _checked_phone(number: str) -> str:
    digits = _digits(number)
    if not 3 <= len(digits) <= 15 or re.search(r"[^0-9+() -]", number):  # noqa: PLR2004 - short code to E.164
        raise WhitelistError("Give a telephone number of 3 to 15 digits.")
    return digits


def _checked_email(address: str) -> str:
    if not re.fullmatch(rf"[\w.+%-]{{1,64}}@{_LABEL}(?:\.{_LABEL})+", address):
        raise WhitelistError("Give an e-mail address such as care@example.com.")
    return address.lower()
