# Synapse is not in the venv of the checks.
# pyright: reportMissingImports=false
"""What the module is told in ``homeserver.yaml``, and what it reads of the rest of it."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, fields
from typing import Any

from southbridge._kernel import Bus, Client


class CannotBeHonouredError(Exception):
    """Something in ``homeserver.yaml`` that the kernel does not do yet."""


@dataclass(frozen=True)
class Settings:
    """The ``config:`` of the module."""

    give_back_after: float = 20 * 60.0
    """Seconds for which a homeserver may take nothing before it is caught up from Synapse's database instead."""
    write_every: float = 0.5
    """Seconds between two writes of how far every homeserver has come."""
    items_max: int = 5_000
    """Events that may wait for one homeserver in memory."""
    bytes_max: int = 64 << 20
    """Bytes of events that may wait in memory, each counted once."""
    agent: bool = True
    """Whether the kernel also carries what Synapse asks homeservers for: profiles, joins, keys, events, media."""
    clients: bool = True
    """Whether the kernel also carries what application services, push gateways, identity servers and the pages of
    previews are asked for."""
    daemon: str | None = None
    """The socket of a ``southbridge serve`` (``listen`` under ``[module]``) whose kernel sends, instead of one in this process.
    Several processes and several Synapses can share it."""
    allow_untested: bool = False
    """Whether a release of Synapse that the tests were not run with is taken over, if it has what is needed."""
    well_known_port: int | None = None
    """For tests: asked for ``.well-known`` instead of 443."""

    @classmethod
    def parse(cls, config: Mapping[str, Any]) -> Settings:
        """The settings in ``config``. Raises `ValueError` for what is no setting, or has no sensible value."""
        known = {field.name: field for field in fields(cls)}
        for name, value in config.items():
            if name not in known:
                raise ValueError(
                    f"{name!r} is no setting of southbridge.synapse.Module: {', '.join(known)} are"
                )
            if name == "daemon":
                if value is not None and not (isinstance(value, str) and value.startswith("/")):
                    raise ValueError(
                        f"daemon of southbridge.synapse.Module is the path of a socket from / on, and not {value!r}"
                    )
                continue
            default = known[name].default
            is_number = isinstance(value, int | float) and not isinstance(value, bool)
            if isinstance(default, bool) != isinstance(value, bool) or (
                not isinstance(default, bool) and not is_number
            ):
                raise ValueError(f"{name} of southbridge.synapse.Module cannot be {value!r}")
        settings = cls(**config)
        for name in ("give_back_after", "write_every", "items_max", "bytes_max"):
            if getattr(settings, name) <= 0:
                raise ValueError(f"{name} of southbridge.synapse.Module is more than 0")
        return settings


def open_bus(hs: Any, settings: Settings) -> Bus:
    """The bus of the homeserver ``hs``: in its name, with its keys, its trust and its rules for addresses."""
    config = hs.config
    _check_here(config)
    with _trust(config) as (ca_files, only_ca_files):
        return Bus(
            hs.hostname,
            _signing_keys(config.key.signing_key),
            ca_files=ca_files,
            only_ca_files=only_ca_files,
            **_reach(*_of_federation(config)),
            give_back_after=settings.give_back_after,
            items_max=settings.items_max,
            bytes_max=settings.bytes_max,
            well_known_port=settings.well_known_port,
        )


def hello_of(hs: Any, settings: Settings) -> dict[str, Any]:
    """What a daemon is told of the homeserver ``hs``: in whose name its bus speaks, with which keys, and what must not be
    dialled for it. Whom it trusts is the daemon's business."""
    _check(hs.config)
    return {
        "server_name": hs.hostname,
        "signing_keys": _signing_keys(hs.config.key.signing_key),
        "give_back_after": settings.give_back_after,
        "items_max": settings.items_max,
        "bytes_max": settings.bytes_max,
        "never_dialled": _reach(*_of_federation(hs.config))["deny"],
    }


def asks_elsewhere(hs: Any, settings: Settings) -> bool:
    """Whether what ``hs`` asks homeservers for goes by another door of the daemon, as ``homeserver.yaml`` says."""
    return settings.daemon is not None and _is_restricted(hs)


def _is_restricted(hs: Any) -> bool:
    return hs.get_instance_name() not in hs.config.worker.outbound_federation_restricted_to


def open_web_client(hs: Any) -> Client:
    """A client for what homeservers redirect to: with Synapse's trust and rules for addresses in federation."""
    with _trust(hs.config) as (ca_files, only_ca_files):
        return web_client(*_of_federation(hs.config), ca_files=ca_files, only_ca_files=only_ca_files)


def web_client(blocked: Any, allowed: Any, **trust: Any) -> Client:
    """A client that dials everything but what is ``blocked`` and not ``allowed``, and leaves all else to who uses it."""
    return Client(
        cookies=False,
        redirects_max=0,
        decompress=False,
        proxy=None,
        connections_max=CONNECTIONS_MAX,
        **_reach(blocked, allowed),
        **trust,
    )


def _of_federation(config: Any) -> tuple[Any, Any]:
    return config.server.federation_ip_range_blocklist, config.server.federation_ip_range_allowlist


def _reach(blocked: Any, allowed: Any) -> dict[str, Any]:
    # Synapse blocks what it lists, and nothing else; what is allowed is allowed whatever blocks it.
    denied = blocked if blocked is None or allowed is None else blocked - allowed
    return {
        "allow": ["0.0.0.0/0", "::/0"],
        "deny": [] if denied is None else [str(one) for one in denied.iter_cidrs()],
    }


@contextmanager
def _trust(config: Any) -> Generator[tuple[list[str], bool], None, None]:
    """The files that vouch for homeservers, while they are read, and whether nothing else does."""
    roots = config.tls.federation_ca_trust_root
    if roots is None:
        yield [], False
        return
    path = _write_roots(roots)
    try:
        yield [path], True
    finally:
        os.unlink(path)


def _check_here(config: Any) -> None:
    """As `_check`, for a kernel of this process."""
    _check(config)
    # That others reach the world through a process with a kernel has not been shown.
    if config.worker.outbound_federation_restricted_to.locations:
        raise CannotBeHonouredError("outbound_federation_restricted_to is set, which it cannot honour yet")


def _check(config: Any) -> None:
    proxy = config.server.proxy_config
    reasons = {
        "federation_verify_certificates: false": not config.tls.federation_verify_certificates,
        "federation_certificate_verification_whitelist": config.tls.federation_certificate_verification_whitelist,
        "https_proxy": proxy is not None and proxy.https_proxy,
        "federation_client_minimum_tls_version: 1.3": config.tls.federation_client_minimum_tls_version
        == "1.3",
        "experimental_features.msc4354_enabled": config.experimental.msc4354_enabled,
    }
    for setting, is_set in reasons.items():
        if is_set:
            raise CannotBeHonouredError(f"{setting} is set, which it cannot honour yet")


def _signing_keys(keys: list[Any]) -> str:
    from signedjson.key import encode_signing_key_base64

    return "\n".join(f"{key.alg} {key.version} {encode_signing_key_base64(key)}" for key in keys)


def _write_roots(roots: Any) -> str:
    """The certificates of ``federation_custom_ca_list``, which Synapse keeps in memory, in a file."""
    from OpenSSL import crypto

    certificates = getattr(roots, "_caCerts", None)
    if certificates is None:
        raise CannotBeHonouredError(
            "this Twisted keeps the certificates of federation_custom_ca_list elsewhere"
        )
    with tempfile.NamedTemporaryFile(suffix=".pem", delete=False) as file:
        for certificate in certificates:
            file.write(crypto.dump_certificate(crypto.FILETYPE_PEM, certificate))
    return file.name


# As many as Synapse keeps open to one host: a push gateway is asked for many users at a time.
CONNECTIONS_MAX = 100
