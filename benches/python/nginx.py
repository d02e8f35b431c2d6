"""nginx on loopback, for as long as it is wanted: by HTTP/1.1, and where there is a certificate by HTTP/2 over TLS too."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

CONFIGURATION = """
daemon off; master_process off; pid {dir}/pid; error_log {dir}/error.log;
worker_rlimit_nofile 4096;
events {{ worker_connections 2048; }}
http {{
    access_log off; keepalive_requests 100000000; keepalive_timeout 600; types {{ }} default_type text/plain;
    client_body_temp_path {dir}; proxy_temp_path {dir}; fastcgi_temp_path {dir}; uwsgi_temp_path {dir}; scgi_temp_path {dir};
    server {{
        listen 127.0.0.1:{port} backlog=1024; root {dir};
        {tls}
        gzip on; gzip_types application/json; gzip_min_length 10000;
        location = /answer {{ default_type application/json; return 200 '{{"rooms": [1, 2.5, "three", null, true]}}'; }}
        location = /long {{ default_type application/json; try_files /long.json =404; }}
        location = /moved {{ return 302 /2k; }}
    }}
}}
"""
TLS = "listen 127.0.0.1:{port} ssl http2; ssl_certificate {pem}; ssl_certificate_key {pem};"


@contextmanager
def nginx() -> Iterator[str]:
    """The URL of 2 KB, at an nginx that ends with us."""
    with tempfile.TemporaryDirectory() as folder:
        port = free_port()
        with served(folder, port, ""):
            yield f"http://127.0.0.1:{port}/2k"


@contextmanager
def nginx_and_tls(pem: Path) -> Iterator[tuple[str, str]]:
    """Where an nginx is that has the certificate and key in ``pem``: by HTTP/1.1, and by HTTP/2 over TLS.

    It has ``/2k``, a mebibyte at ``/1m``, JSON at ``/answer`` and, compressed, at ``/long``; ``/moved`` leads to the first.
    """
    with tempfile.TemporaryDirectory() as folder:
        plain, secure = free_port(), free_port()
        with served(folder, plain, TLS.format(port=secure, pem=pem)):
            yield f"http://127.0.0.1:{plain}", f"https://127.0.0.1:{secure}"


@contextmanager
def served(folder: str, port: int, tls: str) -> Iterator[None]:
    program = shutil.which("nginx") or "/usr/sbin/nginx"
    (Path(folder) / "2k").write_bytes(b"x" * 2048)
    (Path(folder) / "1m").write_bytes(b"x" * (1 << 20))
    (Path(folder) / "long.json").write_text(
        json.dumps([{"n": n, "name": f"number {n}"} for n in range(1000)])
    )
    configuration = Path(folder) / "nginx.conf"
    configuration.write_text(CONFIGURATION.format(dir=folder, port=port, tls=tls))
    with subprocess.Popen([program, "-p", folder, "-c", str(configuration)]) as process:
        try:
            wait_for(port)
            yield
        finally:
            process.terminate()


def free_port() -> int:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        return int(holder.getsockname()[1])


def wait_for(port: int) -> None:
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
    raise SystemExit("nginx does not listen")
