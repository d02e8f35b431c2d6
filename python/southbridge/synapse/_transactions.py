# Synapse is not in the venv of the checks.
# pyright: reportMissingImports=false
"""What Synapse's own queues send: carried by the kernel, in the one queue that it has for each homeserver.

Catching up, to-device messages and device lists stay with Synapse's queues, which know its database; each of their
transactions is handed to the kernel and waited for. Back-offs are Synapse's own, by its own rules.
"""

from __future__ import annotations

import json
import logging
from typing import Any

from canonicaljson import encode_canonical_json
from synapse.api.errors import RequestSendFailed
from synapse.federation.sender import TransactionManager
from synapse.federation.units import serialize_and_filter_pdus
from synapse.logging.context import make_deferred_yieldable
from synapse.logging.opentracing import (
    extract_text_map,
    set_tag,
    start_active_span_follows_from,
    tags,
    whitelisted_homeserver,
)
from synapse.util.retryutils import get_retry_limiter

from southbridge.synapse._daemon import NotTakenError
from southbridge.synapse._deliveries import Deliveries
from southbridge.synapse._reactor import Reader

logger = logging.getLogger("southbridge.synapse")

PDU_BYTES_MAX = 65_536
# Seconds: for how long an attempt has failed just now, and after which Synapse has surely written down that it did.
JUST_NOW = 5.0
WRITTEN_AFTER = 1.0


class KernelTransactions(TransactionManager):  # type: ignore[misc]
    """Carries transactions with the kernel."""

    def __init__(self, hs: Any, reader: Reader, deliveries: Deliveries) -> None:
        super().__init__(hs)
        self._hs = hs
        self._reader = reader
        self._deliveries = deliveries
        self.carrying: set[str] = set()
        """To whom something is carried just now."""
        self.once: set[str] = set()
        """Those of whom a single attempt says enough."""
        # Of those to whom something is carried, who has said something meanwhile; and to whom something failed just now.
        self._heard: set[str] = set()
        self._failed: set[str] = set()

    def heard_of(self, destination: str) -> None:
        """``destination`` has said something: an attempt that fails about now says nothing of it."""
        if destination in self.carrying:
            self._heard.add(destination)
        elif destination in self._failed:
            self._failed.discard(destination)
            self._try_again(destination)

    async def clear_back_offs(self, destinations: list[str]) -> None:
        """Have Synapse back off from none of them any more."""
        if not destinations:
            return
        known = await self._store.get_destination_retry_timings_batch(destinations)
        for destination in [name for name, timings in known.items() if timings is not None]:
            await self._store.set_destination_retry_timings(destination, None, 0, 0)
            self._hs.get_notifier().notify_remote_server_up(destination)

    async def send_new_transaction(self, destination: str, pdus: list[Any], edus: list[Any]) -> None:
        """Wait until ``destination`` has all of it. Raises when it does not get it from here, and backs off."""
        if self._is_shutdown:
            # Whoever asks would take it as sent.
            raise RequestSendFailed(RuntimeError("this Synapse is ending"), can_retry=True)
        with start_active_span_follows_from("send_transaction", _contexts(destination, edus)):
            await self._send(destination, pdus, edus)

    async def _send(self, destination: str, pdus: list[Any], edus: list[Any]) -> None:
        limiter = await get_retry_limiter(
            destination=destination,
            our_server_name=self.server_name,
            hs=self._hs,
            clock=self.clock,
            store=self._store,
            notifier=self._hs.get_notifier(),
            replication_client=self._hs.get_replication_command_handler(),
            backoff_on_all_error_codes=True,
        )
        failure: RequestSendFailed | None = None
        refused: list[tuple[str, str, str]] = []
        try:
            refused = await self._carry(destination, pdus, edus)
        except RequestSendFailed as error:
            if isinstance(error.inner_exception, NotTakenError):
                # That is not to be held against the destination.
                raise
            failure = error
        try:
            with limiter:
                if failure is not None:
                    raise failure
        except Exception:
            set_tag(tags.ERROR, True)
            self._note_failed(destination)
            raise
        log_refused(refused)
        await self._deliveries.carried(destination, pdus, refused)

    async def _carry(self, destination: str, pdus: list[Any], edus: list[Any]) -> list[tuple[str, str, str]]:
        now = self.clock.time_msec()
        bodies = [(body, event.event_id) for event in pdus if (body := pdu_body(event)) is not None]
        contents = [(edu.edu_type, encode_canonical_json(edu.content)) for edu in edus]
        bus = self._reader.bus
        patience = 0.0 if destination in self.once else None
        self.carrying.add(destination)
        self._heard.discard(destination)
        try:
            carrying = self._reader.answer(
                lambda: bus.carry(destination, bodies, contents, now, patience=patience)
            )
            refused: list[tuple[str, str, str]] = await make_deferred_yieldable(carrying)
        except Exception as error:
            raise RequestSendFailed(error, can_retry=True) from error
        finally:
            self.carrying.discard(destination)
        return refused

    def _note_failed(self, destination: str) -> None:
        if destination in self._heard:
            self._try_again(destination)
        else:
            # It may have spoken before Synapse began to back off from it, and be heard of in a moment.
            self._failed.add(destination)
            self._hs.get_reactor().callLater(JUST_NOW, self._failed.discard, destination)

    def _try_again(self, destination: str) -> None:
        """End Synapse's back-off from ``destination``, which it is about to write down: its next request might be hours away."""
        again = (
            self._hs.run_as_background_process,
            "southbridge_is_back",
            self.clear_back_offs,
            [destination],
        )
        self._hs.get_reactor().callLater(WRITTEN_AFTER, *again)


def _contexts(destination: str, edus: list[Any]) -> list[Any]:
    """The spans in which ``edus`` were made, as Synapse follows them."""
    contexts: list[Any] = []
    for edu in edus:
        context = edu.get_context()
        if context:
            contexts.append(extract_text_map(json.loads(context)))
        if whitelisted_homeserver(destination):
            edu.strip_context()
    return contexts


def pdu_body(event: Any) -> bytes | None:
    """The bytes of ``event`` as they are sent; nothing for one that Synapse does not send."""
    parts = serialize_and_filter_pdus([event])
    if not parts:
        return None
    body: bytes = encode_canonical_json(parts[0])
    if len(body) > PDU_BYTES_MAX:
        # What is not signed counts as well, and nobody needs it.
        body = encode_canonical_json({key: part for key, part in parts[0].items() if key != "unsigned"})
    return body


def log_refused(refused: list[tuple[str, str, str]]) -> None:
    """What others said against single events, as Synapse itself logs it."""
    for destination, event_id, error in refused:
        logger.warning("TX [%s] Remote returned error for %s: %s", destination, event_id, error)
