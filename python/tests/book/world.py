"""The world of the examples: a proxy behind which every name is one peer, over TLS as well.

The kernel asks the proxy of the environment, so an example says ``https://example.org/`` and reaches this.
"""

from __future__ import annotations

import json
import ssl
import threading
from collections.abc import Generator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, cast
from urllib.parse import parse_qsl, urlsplit

import trustme

NAMES = ("example.org", "*.example.org")


class _World(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, context: ssl.SSLContext) -> None:
        super().__init__(("127.0.0.1", 0), _Peer)
        self.context = context

    def handle_error(self, request: object, client_address: object) -> None:
        """Who is given up in the middle says so; examples of cancelling want it."""


class _Closing(ssl.SSLSocket):
    """Closed when nobody has it any more: where the client has reset its connection already, the standard library loses it in
    the middle of wrapping it."""

    def __del__(self) -> None:
        self.close()


class _Peer(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_CONNECT(self) -> None:
        """The tunnel ends here, and TLS begins."""
        self.send_response_only(200, "Connected")
        self.end_headers()
        context = cast("_World", self.server).context
        self.connection = context.wrap_socket(self.connection, server_side=True)
        self.rfile: Any = self.connection.makefile("rb")
        self.wfile: Any = self.connection.makefile("wb", 0)
        self.close_connection = False

    def finish(self) -> None:
        super().finish()
        self.connection.close()

    def _do(self) -> None:
        parts = urlsplit(self.path)
        length = int(self.headers.get("Content-Length") or 0)
        body = self._chunks() if self.headers.get("Transfer-Encoding") else self.rfile.read(length)
        handler = getattr(self, "_" + parts.path.strip("/").replace("/", "_"), None)
        if handler is not None:
            handler()
            return
        told = {
            "method": self.command,
            "path": parts.path,
            "args": dict(parse_qsl(parts.query)),
            "headers": {name.lower(): value for name, value in self.headers.items()},
            "body": body.decode("latin-1"),
        }
        self._answer(200, json.dumps(told).encode(), "application/json")

    do_GET = do_HEAD = do_OPTIONS = do_POST = do_PUT = do_PATCH = do_DELETE = _do  # noqa: N815

    def _chunks(self) -> bytes:
        body = b""
        while size := int(self.rfile.readline(), 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return body

    def _answer(self, status: int, body: bytes, kind: str, **more: str) -> None:
        self.send_response(status)
        for name, value in more.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(b"" if self.command == "HEAD" else body)

    def _slow(self) -> None:
        # Until whoever asked has had enough.
        self.rfile.read(1)
        self.close_connection = True

    def _cut(self) -> None:
        self.close_connection = True

    def _old(self) -> None:
        self._answer(302, b"", "text/plain", Location="/new")

    def _missing(self) -> None:
        self._answer(404, b"no such page", "text/plain")

    def _login(self) -> None:
        self._answer(200, b"welcome", "text/plain", Set_Cookie="session=1234; Path=/; Secure")

    def _feed(self) -> None:
        self._answer(200, b"one\ntwo\nthree\n", "text/plain")

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - likewise
        pass


@contextmanager
def world(folder: Path) -> Generator[dict[str, str], None, None]:
    """The variables of the environment that lead there."""
    authority = trustme.CA()
    ca_file = folder / "ca.pem"
    authority.cert_pem.write_to_path(str(ca_file))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.sslsocket_class = _Closing
    certificate = authority.issue_cert(*NAMES)
    certificate.configure_cert(context)
    certificate.private_key_pem.write_to_path(str(folder / "key.pem"))
    certificate.cert_chain_pems[0].write_to_path(str(folder / "certificate.pem"))
    with _World(context) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        proxy = f"http://127.0.0.1:{server.server_address[1]}"
        yield {"http_proxy": proxy, "https_proxy": proxy, "SSL_CERT_FILE": str(ca_file)}
        server.shutdown()
        thread.join()
