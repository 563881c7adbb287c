"""The certificate is one that a strict client takes."""

from __future__ import annotations

import socket
import ssl
import threading
from pathlib import Path

import pytest

from cluster.local.tls import make_certificate


def _serve_one(listener: socket.socket, context: ssl.SSLContext) -> None:
    connection, _ = listener.accept()
    with connection:
        try:
            with context.wrap_socket(connection, server_side=True) as tls:
                tls.sendall(b"hello")
        except (ssl.SSLError, ConnectionError):
            return


def _greet(context: ssl.SSLContext, client: ssl.SSLContext, name: str) -> bytes:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=_serve_one, args=(listener, context))
        thread.start()
        try:
            with (
                socket.create_connection(listener.getsockname()) as raw,
                client.wrap_socket(raw, server_hostname=name) as tls,
            ):
                return tls.recv(5)
        finally:
            thread.join()


@pytest.mark.parametrize("name", ["localhost", "127.0.0.1"])
def test_a_client_that_trusts_the_exported_file_connects(tmp_path: Path, name: str) -> None:
    """Both names work, with the strict X.509 checks that newer Pythons switch on."""
    certificate = make_certificate(tmp_path)
    client = ssl.create_default_context(cafile=certificate.ca_file)
    client.verify_flags |= ssl.VERIFY_X509_STRICT
    assert _greet(certificate.context, client, name) == b"hello"


def test_a_client_that_does_not_trust_it_is_refused(tmp_path: Path) -> None:
    """Another run's authority is not this run's."""
    certificate, other = make_certificate(tmp_path / "a"), make_certificate(tmp_path / "b")
    client = ssl.create_default_context(cafile=other.ca_file)
    with pytest.raises(ssl.SSLCertVerificationError):
        _greet(certificate.context, client, "localhost")


def test_only_its_owner_can_read_the_key(tmp_path: Path) -> None:
    """The private key's file is closed to others."""
    make_certificate(tmp_path)
    assert (tmp_path / "server.key").stat().st_mode & 0o077 == 0
