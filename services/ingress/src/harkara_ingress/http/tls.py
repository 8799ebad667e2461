"""TLS at the edge: 1.2 and 1.3, ciphers with forward secrecy, and certificates that may change while it runs."""

import logging
import ssl
from pathlib import Path

logger = logging.getLogger(__name__)

_CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20"
"""For TLS 1.2; what 1.3 has is all good."""


class Certificate:
    """A certificate and its key, and the context that shows them."""

    def __init__(self, cert_file: Path, key_file: Path) -> None:
        """Read both.

        Raises:
            OSError: a file cannot be read.
            ssl.SSLError: what is in them is no certificate and its key.
        """
        self._files = (cert_file, key_file)
        self._read = self._state()
        self.context = _context()
        self.context.load_cert_chain(*self._files)

    def read_again(self) -> None:
        """Take up what has changed; connections that are open keep what they were shown."""
        state = self._state()
        if state == self._read:
            return
        self._read = state
        try:
            # The live one only ever gets a pair that fits: files may be written one after the other.
            _context().load_cert_chain(*self._files)
            self.context.load_cert_chain(*self._files)
        except (OSError, ssl.SSLError) as error:
            logger.warning(
                "the new certificate cannot be used, the former one stays", extra={"kind": type(error).__name__}
            )
        else:
            logger.info("the certificate was read again")

    def _state(self) -> list[tuple[int, int, int] | None]:
        return [_state_of(file) for file in self._files]


def _state_of(file: Path) -> tuple[int, int, int] | None:
    try:
        found = file.stat()
    except OSError:
        return None
    # A mounted secret is exchanged as a whole: the link then leads to another file, which may be of the same second.
    return found.st_mtime_ns, found.st_ino, found.st_size


def _context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(_CIPHERS)
    context.set_alpn_protocols(["http/1.1"])
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_CIPHER_SERVER_PREFERENCE
    return context
