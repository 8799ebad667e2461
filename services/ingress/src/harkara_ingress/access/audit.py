"""The log of who changed what may be done and by whom; it names ids, never a key or a secret."""

import logging

from harkara_ingress.access.accounts import Caller

logger = logging.getLogger(__name__)


def audit(caller: Caller, what: str, **details: object) -> None:
    """Log a change that was made.

    Args:
        caller: whose key it was made with.
        what: what was done, in a few words.
        details: ids and settings, none of them secret.
    """
    logger.info(what, extra={"by_key": caller.key_id, "by_account": caller.account_id, **details})
