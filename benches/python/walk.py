"""What programs do most, for whoever watches: the start, requests from asyncio and from a thread, a Synapse's bus.

``cargo xtask order`` watches which functions are called first on this walk, and the native module is optimised by how often
each of its branches is taken on it. It says ``mapped`` when the module given as the argument is in memory, and begins
when its standard input ends; what runs before, and what this program starts, is not watched.
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
from collections.abc import AsyncIterator
from pathlib import Path

import trustme

from .nginx import nginx_and_tls

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
    with tempfile.TemporaryDirectory() as folder:
        ca = trustme.CA()
        ca_file, pem = Path(folder) / "ca.pem", Path(folder) / "server.pem"
        ca.cert_pem.write_to_path(str(ca_file))
        certificate = ca.issue_cert("127.0.0.1")
        certificate.private_key_and_cert_chain_pem.write_to_path(str(pem))
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Homeserver)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        certificate.configure_cert(context)
        server.socket = context.wrap_socket(server.socket, server_side=True)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        with nginx_and_tls(pem) as (plain, secure):
            ctypes.CDLL(module)
            print("mapped", flush=True)
            sys.stdin.read()
            walk(plain, secure, f"127.0.0.1:{server.server_address[1]}", ca_file)


def walk(plain: str, secure: str, homeserver: str, ca_file: Path) -> None:
    import southbridge
    from southbridge._kernel import Port

    Port()
    client = southbridge.Client()
    asyncio.run(ask(client, f"{plain}/2k", 20))
    for _ in range(300):
        assert client.get(f"{plain}/2k").status == 200
    careful = southbridge.Client(ca_files=[ca_file])
    assert careful.get(f"https://{homeserver}/").json() == {}
    carry(homeserver, ca_file)
    # What is done more seldom, or by fewer.
    asyncio.run(ask(careful, f"{secure}/2k", 5))
    talk(client, plain)
    asyncio.run(stream(client, plain))
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(10):
            client.download(f"{plain}/1m", Path(folder) / "1m")


async def ask(client, url: str, times: int) -> None:  # type: ignore[no-untyped-def] # its type comes with what is watched
    async def worker() -> None:
        for _ in range(times):
            assert (await client.get(url)).status == 200

    await asyncio.gather(*(worker() for _ in range(IN_FLIGHT)))


def talk(client, plain: str) -> None:  # type: ignore[no-untyped-def] # as above
    for n in range(100):
        answer = client.post(
            f"{plain}/answer", json={"n": n}, headers={"x-number": str(n)}, params={"n": "1"}
        )
        assert answer.json()["rooms"][0] == 1
        assert client.get(f"{plain}/moved").status == 200
        assert client.get(f"{plain}/nowhere").status == 404
    for _ in range(50):
        assert len(client.get(f"{plain}/long").json()) == 1000


async def stream(client, plain: str) -> None:  # type: ignore[no-untyped-def] # as above
    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(20):
            yield b"x" * 1000

    for _ in range(20):
        async with client.stream("GET", f"{plain}/1m") as response:
            assert sum([len(piece) async for piece in response.iter_bytes()]) == 1 << 20
        assert (await client.post(f"{plain}/answer", content=pieces())).status == 200


def carry(homeserver: str, ca_file: Path) -> None:
    from southbridge._kernel import Bus

    bus = Bus("me.example", KEY, ca_files=[ca_file], only_ca_files=True, allow=["127.0.0.0/8"])
    last = 100
    for n in range(1, last):
        bus.send_pdu(b'{"n":%d,"content":{"body":"it is said"}}' % n, f"$one{n}", [homeserver], n)
        bus.send_edu("m.typing", b'{"user_ids":["@me:me.example"]}', [homeserver], n)
        until_drained(bus, bus.carry(homeserver, [(b'{"n":%d}' % n, f"$two{n}")], [], n))
    until_drained(bus, bus.progress(last))
    until_drained(bus, bus.close(last))


def until_drained(bus, ticket: int) -> None:  # type: ignore[no-untyped-def]
    while True:
        select.select([bus], [], [], 10)
        for drained, said in bus.drain():
            assert not isinstance(said, Exception), said
            if drained == ticket:
                return


if __name__ == "__main__":
    main(sys.argv[1])
