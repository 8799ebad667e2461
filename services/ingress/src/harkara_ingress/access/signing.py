"""Signatures of requests: HMAC-SHA256 over the timestamp and the body, `sha256=` and lower-case hex.

What a client signs is not always what its HTTP library sends: Python's writes `", "` and `": "` where the signature was
made over compact JSON, and escapes letters beyond ASCII, which JavaScript leaves as they are. So three forms of a body are
tried: as it came; compact with all beyond ASCII escaped; compact with nothing escaped that needs no escape.

A compact form is made of the body's own tokens in their own order: white space between them goes, strings are escaped
anew, and keys, numbers (`1.0`, `1e5`) and repetitions stay as written. So two bodies that have a compact form in common
differ in white space and escapes only, and a signature never holds for a body that says something else.

Pure: no clock, no I/O. Bodies may be large, so the work comes in slices and whoever asks for it decides what runs between.
"""

import hashlib
import hmac
import json
import re
from collections.abc import Iterator, Sequence
from json.encoder import encode_basestring, encode_basestring_ascii

from harkara_contracts.errors import ErrorCode, HarkaraError

TOLERANCE_S = 300
"""How far a timestamp may lie from our clock, either way."""

_TIMESTAMP = re.compile(rb"[1-9][0-9]{0,14}")
_SIGNATURE = re.compile(rb"sha256=[0-9a-f]{64}")
_SLICE_BYTES = 1 << 20
_STRING = re.compile(rb'("[^"\\]*+(?:\\.[^"\\]*+)*+")', re.DOTALL)
# Up to so many strings and what stands before each; a body falls apart into these and a rest without strings.
_STRETCH = re.compile(rb'(?:[^"]*+"[^"\\]*+(?:\\.[^"\\]*+)*+"){1,512}+', re.DOTALL)
_STRETCH_BYTES = 1 << 18
"""As many as an ordinary body has; a string that is longer, or a gap between two, is signed as it came."""

_SPACE = b" \t\n\r"
# White space with no punctuation beside it keeps two things apart, as JSON never does. NUL stands for a string.
_KEEPS_APART = re.compile(rb"(?<=[^,:\[\]{} \t\n\r])[ \t\n\r]++(?![,:\[\]{}]|\Z)")


def check_timestamp(timestamp: bytes, now_s: float) -> None:
    """Refuse a timestamp that is not of this time.

    Args:
        timestamp: unix seconds, as the header has them.
        now_s: unix time.

    Raises:
        HarkaraError: ERR_SIGNATURE_INVALID.
    """
    if not _TIMESTAMP.fullmatch(timestamp):
        raise invalid("The timestamp of the signature is not whole unix seconds. Send the time as digits only.")
    if abs(int(timestamp) - now_s) > TOLERANCE_S:
        raise invalid(
            f"The timestamp of the signature is more than {TOLERANCE_S} seconds from our time. Sign each attempt anew,"
            " with unix seconds (not milliseconds) of a clock that is set right."
        )


def is_signature(signature: bytes) -> bool:
    """Say whether this has the form of a signature."""
    return _SIGNATURE.fullmatch(signature) is not None


def verdicts(secrets: Sequence[bytes], timestamp: bytes, signature: bytes, body: bytes) -> Iterator[bool | None]:
    """Say whether a signature was made with one of the secrets over this time and one of the body's forms.

    Args:
        secrets: each as it was shown, in UTF-8.
        timestamp: as the header has it.
        signature: as the header has it.
        body: as it came.

    Yields:
        None after each slice of about a millisecond's work, the verdict at the end.
    """
    raw = [_mac(secret, timestamp) for secret in secrets]
    for start in range(0, len(body), _SLICE_BYTES):
        for mac in raw:
            mac.update(memoryview(body)[start : start + _SLICE_BYTES])
        yield None
    if _is_any(raw, signature):
        yield True
        return
    escaped, plain = ([_mac(secret, timestamp) for secret in secrets] for _ in range(2))
    try:
        for of_ascii, of_plain in _compact(body):
            for mac in escaped:
                mac.update(of_ascii)
            for mac in plain:
                mac.update(of_plain)
            yield None
    except ValueError:
        yield False  # no JSON: it has no other forms
        return
    yield _is_any([*escaped, *plain], signature)


def invalid(words: str) -> HarkaraError:
    return HarkaraError(ErrorCode.SIGNATURE_INVALID, words)


def _mac(secret: bytes, timestamp: bytes) -> hmac.HMAC:
    return hmac.new(secret, timestamp, hashlib.sha256)


def _is_any(macs: Sequence[hmac.HMAC], signature: bytes) -> bool:
    # All are compared, so that the time taken does not tell which of the secrets or forms came near.
    return any([hmac.compare_digest(b"sha256=" + mac.hexdigest().encode(), signature) for mac in macs])  # noqa: C419  # as said


def _compact(body: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield the two compact forms piece by piece.

    Raises:
        ValueError: a string is none of JSON, or something is too long to be looked at in one slice.
    """
    at = 0
    while at < len(body):
        window_end = min(at + _STRETCH_BYTES, len(body))
        stretch = _STRETCH.match(body, at, window_end)
        end = stretch.end() if stretch else window_end
        # Where no whole string is in sight there must be none at all: to look for its end from each of its quotes would
        # take for ever.
        if stretch is None and (end < len(body) or b'"' in body[at:end]):
            raise ValueError("not JSON, or too long")
        yield _compact_piece(body[at:end], follows_string=at > 0)
        at = end


def _compact_piece(piece: bytes, *, follows_string: bool) -> tuple[bytes, bytes]:
    parts = _STRING.split(piece)  # between strings, string, between strings, …
    strings = parts[1::2]
    between = b"\0".join(parts[0::2])
    if b"\0" in piece or _KEEPS_APART.search(b"\0" + between if follows_string else between):
        raise ValueError("not JSON")
    parts[0::2] = between.translate(None, _SPACE).split(b"\0")
    if piece.isascii() and b"\\" not in piece and b"\x7f" not in piece:
        same = b"".join(parts)
        return same, same
    values: list[str] = json.loads(b"[%b]" % b",".join(strings))
    parts[1::2] = [encode_basestring_ascii(value).encode() for value in values]
    of_ascii = b"".join(parts)
    parts[1::2] = [encode_basestring(value).encode() for value in values]
    return of_ascii, b"".join(parts)
