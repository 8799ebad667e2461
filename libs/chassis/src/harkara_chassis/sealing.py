"""Sealing of what must be readable again: AES-256-GCM with a fresh nonce, a version byte in front for key rotation."""

import base64
import binascii
import os

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from pydantic import SecretStr

from harkara_contracts.errors import ConfigurationError

_VERSION = b"\x01"
_NONCE_BYTES = 12
_KEY_BYTES = 32


class SealingError(Exception):
    """Sealed with another key, or changed since."""


class Sealer:
    """Seals and opens bytes with one key.

    Raises:
        ConfigurationError: the key is missing, or not 32 bytes of base64.
    """

    def __init__(self, key: SecretStr | None) -> None:
        if key is None:
            raise ConfigurationError("HARKARA_SECRET_KEY is not set: give 32 random bytes in base64")
        try:
            raw = base64.b64decode(key.get_secret_value(), validate=True)
        except binascii.Error as error:
            raise ConfigurationError("HARKARA_SECRET_KEY is not valid base64") from error
        if len(raw) != _KEY_BYTES:
            raise ConfigurationError(f"HARKARA_SECRET_KEY must be {_KEY_BYTES} bytes in base64, it has {len(raw)}")
        self._cipher = AESGCM(raw)

    def seal(self, clear: bytes) -> bytes:
        nonce = os.urandom(_NONCE_BYTES)
        return _VERSION + nonce + self._cipher.encrypt(nonce, clear, _VERSION)

    def open(self, sealed: bytes) -> bytes:
        """Return the clear bytes.

        Raises:
            SealingError: not sealed with this key, or tampered with.
        """
        if sealed[:1] != _VERSION:
            raise SealingError("sealed with an unknown version")
        try:
            return self._cipher.decrypt(sealed[1 : 1 + _NONCE_BYTES], sealed[1 + _NONCE_BYTES :], _VERSION)
        except InvalidTag as error:
            raise SealingError("sealed with another key, or changed since") from error
