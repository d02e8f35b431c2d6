"""What the native module is laid out for: its start, requests from asyncio and from a thread, over TLS, a Synapse's bus.

`cargo xtask order` watches which functions are called first on this walk. It is told ``mapped`` when the module given as
the argument is in memory, and by the end of the standard input that it watches; what runs before, and what this
program starts, is not watched.
"""

from __future__ import annotations

import asyncio
import ctypes
import http.server
import select
import ssl
import sys
import tempfile
import threading
from pathlib import Path

import trustme

from .nginx import nginx

KEY = "ed25519 a_walk c291dGhicmlkZ2UgdGVzdCBzaWduaW5nIGtleSAwMDE"
IN_FLIGHT = 64


class Homeserver(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_PUT(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.answer(b'{"pdus": {}}')

    def do_GET(self) -> None:
        self.answer(b"{}")

    def answer(self, body: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


def main(module: str) -> None:
    with nginx() as plain, tempfile.TemporaryDirectory() as folder:
        ca = trustme.CA()
        ca_file = Path(folder) / "ca.pem"
        ca.cert_pem.write_to_path(str(ca_file))
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Homeserver)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        ca.issue_cert("127.0.0.1").configure_cert(context)
        server.socket = context.wrap_socket(server.socket, server_side=True)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        ctypes.CDLL(module)
        print("mapped", flush=True)
        sys.stdin.read()
        walk(plain, f"127.0.0.1:{server.server_address[1]}", ca_file)


def walk(plain: str, homeserver: str, ca_file: Path) -> None:
    import southbridge
    from southbridge._kernel import Port

    Port()
    client = southbridge.Client()
    asyncio.run(ask(client, plain))
    for _ in range(100):
        assert client.get(plain).status == 200
    careful = southbridge.Client(ca_files=[ca_file])
    assert careful.get(f"https://{homeserver}/").json() == {}
    carry(homeserver, ca_file)


async def ask(client, url: str) -> None:  # type: ignore[no-untyped-def] # what it is comes with the import that is watched
    async def worker() -> None:
        for _ in range(10):
            assert (await client.get(url)).status == 200

    await asyncio.gather(*(worker() for _ in range(IN_FLIGHT)))


def carry(homeserver: str, ca_file: Path) -> None:
    from southbridge._kernel import Bus

    bus = Bus("me.example", KEY, ca_files=[ca_file], only_ca_files=True, allow=["127.0.0.0/8"])
    bus.send_pdu(b'{"n":1}', "$one", [homeserver], 1)
    bus.send_edu("m.typing", b"{}", [homeserver], 1)
    until_drained(bus, bus.carry(homeserver, [(b'{"n":2}', "$two")], [], 1))
    until_drained(bus, bus.progress(1))
    until_drained(bus, bus.close(1))


def until_drained(bus, ticket: int) -> None:  # type: ignore[no-untyped-def]
    while True:
        select.select([bus], [], [], 10)
        for drained, said in bus.drain():
            assert not isinstance(said, Exception), said
            if drained == ticket:
                return


if __name__ == "__main__":
    main(sys.argv[1])
