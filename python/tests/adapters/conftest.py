"""A peer with TLS, signed by a CA that only the tests know."""

from __future__ import annotations

import ssl
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import NamedTuple

import pytest
import trustme


class TlsPeer(NamedTuple):
    url: str
    ca_file: str


class _Greets(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "6")
        self.end_headers()
        self.wfile.write(b"sealed")

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - likewise
        pass


class _Server(ThreadingHTTPServer):
    def handle_error(self, request: object, client_address: object) -> None:
        """A handshake that the client refused is what some tests want."""


@pytest.fixture(scope="session")
def tls_peer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TlsPeer]:
    folder: Path = tmp_path_factory.mktemp("tls")
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(folder / "ca.pem"))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    server = _Server(("127.0.0.1", 0), _Greets)
    server.daemon_threads = True
    server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield TlsPeer(f"https://localhost:{server.server_address[1]}/", str(folder / "ca.pem"))
    server.shutdown()
    server.server_close()
