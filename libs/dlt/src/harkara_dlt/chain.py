"""The chain from principal entity to delivering telemarketer, and its hash.

Since 11 December 2024 operators refuse a message whose chain is not declared. The telemarketer that delivers (TM-DF)
sends the hash; an aggregator in between passes the plain ids on, so that the next hop can extend them.
"""

import hashlib
from collections.abc import Sequence
from typing import Final

from harkara_dlt.ids import check_dlt_id

_SHORTEST_CHAIN: Final = 2


def chain_hash(ids: Sequence[str]) -> str:
    """SHA-256, in lowercase hex, of the ids joined by single commas.

    Args:
        ids: the principal entity first, each telemarketer in order, the delivering one last.

    Raises:
        DltIdError: one of them is no DLT id.
        ValueError: fewer than two ids.
    """
    if len(ids) < _SHORTEST_CHAIN:
        raise ValueError("A chain has at least two ids: the principal entity and the delivering telemarketer.")
    return hashlib.sha256(",".join(map(check_dlt_id, ids)).encode("ascii")).hexdigest()
