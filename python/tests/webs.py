"""A web server of a few lines, which keeps what it is asked for: a push gateway, an application service, a page."""

from __future__ import annotations

import http.server
import ssl
import threading
from collections.abc import Callable
from dataclasses import dataclass

import trustme


@dataclass
class Visit:
    """A request that came; the names of its fields as they were written."""

    method: str
    path: str
    fields: list[tuple[str, str]]
    body: bytes


Answer = tuple[int, str, bytes]


class Web:
    """Listens at an address of loopback, over TLS if somebody vouches for it; the answer is JSON that says nothing."""

    def __init__(self, address: str = "127.0.0.1", vouching: trustme.CA | None = None) -> None:
        self.visits: list[Visit] = []
        self.answer: Callable[[Visit], Answer] = lambda _: (200, "application/json", b"{}")
        web = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def handle_one(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                visit = Visit(self.command, self.path, self.headers.items(), body)
                web.visits.append(visit)
                status, content_type, answer = web.answer(visit)
                self.send_response(status)
                self.send_header("Content-Type" if status < 300 else "Location", content_type)
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            do_GET = do_POST = do_PUT = handle_one  # noqa: N815

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002
                pass

        self._server = http.server.ThreadingHTTPServer((address, 0), Handler)
        self._server.daemon_threads = True
        self.scheme = "http"
        if vouching is not None:
            self.scheme = "https"
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            vouching.issue_cert("localhost", address).configure_cert(context)
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self.port = int(self._server.server_address[1])
        self.address = address
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def url(self, path: str, host: str = "") -> str:
        return f"{self.scheme}://{host or self.address}:{self.port}{path}"

    def came_by(self, kernel: bool) -> bool:
        """Whether something came, and all of it by the kernel, which writes the names of fields in small letters, or by
        nothing of it."""
        names = [{name for name, _ in visit.fields} for visit in self.visits]
        return bool(names) and all(("user-agent" in some) == kernel for some in names)

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
