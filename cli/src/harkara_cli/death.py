"""What a child does between fork and its program: make sure that it never outlives who started it."""

import ctypes
import os
import sys

_PR_SET_PDEATHSIG = 1  # prctl(2)
_PR_SET_NAME = 15
_NAME_BYTES = 15

# Resolved before any fork: the child only calls it.
_prctl = ctypes.CDLL(None).prctl if sys.platform == "linux" else None


def die_with_parent(signal_number: int, parent_pid: int) -> None:
    """The kernel sends this process `signal_number` when its parent ends, however that happened.

    Call it after any change of user: such a change clears the setting, prctl(2). Elsewhere than on Linux it does nothing.
    """
    if _prctl is None:
        return
    _prctl(_PR_SET_PDEATHSIG, signal_number)
    if os.getppid() != parent_pid:  # the parent ended before the call
        os.kill(os.getpid(), signal_number)


def set_name(name: str) -> None:
    """The name that ps and top show for this process (Linux; 15 bytes)."""
    if _prctl is not None:
        _prctl(_PR_SET_NAME, ctypes.c_char_p(name.encode()[:_NAME_BYTES]))
