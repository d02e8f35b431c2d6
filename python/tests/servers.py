"""Real servers for the behaviour suite: the peer as it is, and nginx before it, by HTTP/1.1 and HTTP/2 over TLS."""

from __future__ import annotations

import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import southbridge
import trustme

NGINX = """
daemon off; master_process off; pid {folder}/pid; error_log {folder}/error.log;
events {{ worker_connections 1024; }}
http {{
    access_log off; types {{ }} default_type text/plain;
    client_body_temp_path {folder}; proxy_temp_path {folder}; fastcgi_temp_path {folder};
    uwsgi_temp_path {folder}; scgi_temp_path {folder};
    ssl_certificate {folder}/chain.pem; ssl_certificate_key {folder}/key.pem;
    # As the peer says it, and when it says it; what it breaks is not mended by asking again.
    proxy_http_version 1.1; proxy_buffering off; proxy_next_upstream off; proxy_set_header Host $host;
    proxy_ignore_client_abort off;
    server {{ listen 127.0.0.1:{http1} ssl; location / {{ proxy_pass {peer}; }} }}
    server {{ listen 127.0.0.1:{http2} ssl http2; location / {{ proxy_pass {peer}; }} }}
}}
"""

NAMES = ("peer", "nginx-http1", "nginx-http2")


@dataclass(frozen=True)
class Server:
    """Where the suite asks, and what it asks with."""

    url: str
    http_version: str
    client: southbridge.Client
    now: Callable[[], float] = time.monotonic
    """The time that its answers take is told by this clock."""


@contextmanager
def every_server(peer: str, folder: Path) -> Generator[dict[str, Server], None, None]:
    """All of them by their names; nginx hands everything on to ``peer``."""
    ca = trustme.CA()
    ca.cert_pem.write_to_path(str(folder / "ca.pem"))
    certificate = ca.issue_cert("127.0.0.1", "localhost")
    certificate.private_key_pem.write_to_path(str(folder / "key.pem"))
    for at, pem in enumerate(certificate.cert_chain_pems):
        pem.write_to_path(str(folder / "chain.pem"), append=at > 0)
    http1, http2 = _free_ports(2)
    configuration = folder / "nginx.conf"
    configuration.write_text(NGINX.format(folder=folder, peer=peer, http1=http1, http2=http2))
    program = shutil.which("nginx") or "/usr/sbin/nginx"
    with subprocess.Popen([program, "-p", str(folder), "-c", str(configuration)]) as nginx:
        try:
            _wait_for(http1, nginx)
            trusted = [str(folder / "ca.pem")]
            urls = {
                "peer": (peer, "HTTP/1.1"),
                "nginx-http1": (f"https://127.0.0.1:{http1}", "HTTP/1.1"),
                "nginx-http2": (f"https://127.0.0.1:{http2}", "HTTP/2"),
            }
            yield {
                name: Server(url, version, southbridge.Client(base_url=url, ca_files=trusted))
                for name, (url, version) in urls.items()
            }
        finally:
            nginx.terminate()


def _free_ports(count: int) -> list[int]:
    holders = [socket.socket() for _ in range(count)]
    for holder in holders:
        holder.bind(("127.0.0.1", 0))
    ports = [int(holder.getsockname()[1]) for holder in holders]
    for holder in holders:
        holder.close()
    return ports


def _wait_for(port: int, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline and process.poll() is None:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.02)
    raise RuntimeError("nginx does not listen; its own words are above")
