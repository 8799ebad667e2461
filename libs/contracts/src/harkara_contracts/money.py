"""Money is an integer of milli-paise: 1 paisa = 1,000, 1 rupee = 100,000.

The DLT charge (2.5 paise) and slab mixes are no whole paise; nothing is rounded before an invoice line.
"""

from typing import NewType

MilliPaise = NewType("MilliPaise", int)

PAISA_MP = 1_000
RUPEE_MP = 100_000


def from_paise(paise: int) -> MilliPaise:
    return MilliPaise(paise * PAISA_MP)


def to_paise(amount_mp: int) -> str:
    """Write an amount in paise, exactly, without trailing zeros: 2500 milli-paise is `2.5`."""
    return _decimal(amount_mp, 3)


def to_rupees(amount_mp: int) -> str:
    """Write an amount in rupees with at least two decimals: 22000 milli-paise is `0.22`."""
    text = _decimal(amount_mp, 5)
    whole, _, fraction = text.partition(".")
    return f"{whole}.{fraction.ljust(2, '0')}"


def _decimal(amount: int, places: int) -> str:
    sign = "-" if amount < 0 else ""
    whole, fraction = divmod(abs(amount), 10**places)
    digits = f"{fraction:0{places}d}".rstrip("0")
    return f"{sign}{whole}.{digits}" if digits else f"{sign}{whole}"
