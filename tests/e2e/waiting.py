"""Waiting for what a running system does in its own time: a condition is polled, within a bound."""

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

_EVERY_S = 0.03


def eventually(look: Callable[[], T | None], *, timeout_s: float = 15.0, what: str = "") -> T:
    """Look until there is something true, and return it; AssertionError when the time is up.

    Args:
        look: returns what is there now; anything false means not yet.
        timeout_s: how long it may take.
        what: is being waited for, for the failure's words.
    """
    deadline = time.monotonic() + timeout_s
    while not (seen := look()):
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {timeout_s:g} s: {what or look}; last seen: {seen!r}")
        time.sleep(_EVERY_S)
    return seen
