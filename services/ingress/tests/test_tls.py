"""TLS: new enough, and with the certificate that lies in the files now."""

import asyncio
import logging
import ssl
from pathlib import Path

import pytest
import trustme
from pydantic import ValidationError
from services.ingress.tests.serving import Echo, connected, served

from harkara_ingress.http.tls import Certificate
from harkara_ingress.settings import Settings

HOST = "edge.harkara.example"


class Files:
    def __init__(self, folder: Path) -> None:
        self.authority = trustme.CA()
        self.cert, self.key = folder / "tls.crt", folder / "tls.key"
        self.renew()

    def renew(self) -> None:
        issued = self.authority.issue_cert(HOST)
        chain = b"".join(blob.bytes() for blob in issued.cert_chain_pems)
        for file, octets in ((self.cert, chain), (self.key, issued.private_key_pem.bytes())):
            fresh = file.with_suffix(".new")
            fresh.write_bytes(octets)
            fresh.replace(file)

    def client(self) -> ssl.SSLContext:
        context = ssl.create_default_context()
        context.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
        context.set_alpn_protocols(["h2", "http/1.1"])
        self.authority.configure_trust(context)
        return context


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(tmp_path)


async def serial(port: int, context: ssl.SSLContext) -> str:
    async with connected(port, ssl=context, server_hostname=HOST) as raw:
        shown = raw.writer.get_extra_info("peercert")
        return str(shown["serialNumber"])


async def test_requests_come_over_tls(files: Files) -> None:
    async with served(Echo(), tls_cert_file=files.cert, tls_key_file=files.key) as server:
        async with connected(server.port, ssl=files.client(), server_hostname=HOST) as raw:
            spoken = raw.writer.get_extra_info("ssl_object")
            assert (spoken.version(), spoken.selected_alpn_protocol()) == ("TLSv1.3", "http/1.1")
            await raw.say(b"GET /x HTTP/1.1\r\nHost: edge\r\n\r\n" * 2)
            assert await raw.answer() == (200, b"GET /x 0")
            assert await raw.answer() == (200, b"GET /x 0")
        async with connected(server.port) as plain:
            await plain.say(b"GET /x HTTP/1.1\r\nHost: edge\r\n\r\n")
            assert b"HTTP/1.1 200" not in await plain.rest()


async def test_old_tls_and_weak_ciphers_are_not_spoken(files: Files) -> None:
    async with served(Echo(), tls_cert_file=files.cert, tls_key_file=files.key) as server:
        fit = files.client()
        fit.maximum_version = ssl.TLSVersion.TLSv1_2
        async with connected(server.port, ssl=fit, server_hostname=HOST) as raw:
            name, version, _ = raw.writer.get_extra_info("cipher")
            assert version == "TLSv1.2"
            assert name.startswith("ECDHE-")
        weak = files.client()
        weak.maximum_version = ssl.TLSVersion.TLSv1_2
        weak.set_ciphers("AES128-SHA:AES256-GCM-SHA384:@SECLEVEL=0")
        with pytest.raises((ssl.SSLError, ConnectionError)):
            async with connected(server.port, ssl=weak, server_hostname=HOST):
                pass


async def test_a_renewed_certificate_is_shown_to_the_next_client(files: Files) -> None:
    async with served(Echo(), tls_cert_file=files.cert, tls_key_file=files.key) as server:
        former = await serial(server.port, files.client())
        async with connected(server.port, ssl=files.client(), server_hostname=HOST) as raw:
            files.renew()
            async with asyncio.timeout(10):
                while await serial(server.port, files.client()) == former:
                    await asyncio.sleep(0.1)
            await raw.say(b"GET /x HTTP/1.1\r\nHost: edge\r\n\r\n")
            assert await raw.answer() == (200, b"GET /x 0")


def test_files_that_do_not_fit_leave_the_former_certificate(files: Files, caplog: pytest.LogCaptureFixture) -> None:
    certificate = Certificate(files.cert, files.key)
    former_key = files.key.read_bytes()
    caplog.set_level(logging.INFO)
    files.renew()
    renewed_key = files.key.read_bytes()
    files.key.write_bytes(former_key)
    certificate.read_again()
    certificate.read_again()
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    files.key.write_bytes(renewed_key)
    certificate.read_again()
    assert caplog.records[-1].message == "the certificate was read again"
    files.cert.unlink()
    certificate.read_again()
    assert caplog.records[-1].levelname == "WARNING"


def test_a_certificate_without_its_key_is_told_at_once(files: Files) -> None:
    with pytest.raises(ValidationError, match="belong together"):
        Settings(tls_cert_file=files.cert)


async def test_a_handshake_that_does_not_come_is_given_up(files: Files) -> None:
    tls = {"tls_cert_file": files.cert, "tls_key_file": files.key}
    async with served(Echo(), head_timeout_s=0.5, **tls) as server, connected(server.port) as silent:
        assert await silent.rest() == b""
