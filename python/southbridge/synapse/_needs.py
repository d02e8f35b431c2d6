"""What the module takes of Synapse that is no public interface, and whether this Synapse has it.

A release in which something is called otherwise must not be half-worked: the module then leaves it as it is, and says
what is missing.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Mapping
from importlib import metadata
from typing import Any

from southbridge.synapse._releases import RELEASES, Calls, nearest

TESTED = tuple(RELEASES)
"""Releases that the tests have been run with."""

_QUEUE = "synapse.federation.sender.per_destination_queue"
_ASKING = "synapse.http.matrixfederationclient:MatrixFederationHttpClient"
_SENDER = "synapse.federation.sender"
_DELIVERED = "synapse.module_api.callbacks.federation"
_HEARING = "synapse.federation.transport.server._base"
_STORE = "synapse.storage.databases.main"

_CALLS: Calls = {
    # Where the sender is made: what is replaced, and by whom it is called.
    "synapse.server:FederationSender": ("hs",),
    f"{_SENDER}:FederationSender._get_per_destination_queue": ("self", "destination"),
    f"{_SENDER}:FederationSender._send_pdu": ("self", "pdu", "destinations"),
    f"{_SENDER}:FederationSender._wake_destinations_needing_catchup": ("self",),
    f"{_SENDER}:FederationSender.notify_new_events": ("self", "max_token"),
    f"{_SENDER}:FederationSender.send_device_messages": ("self", "destinations", "immediate"),
    f"{_SENDER}:FederationSender.wake_destination": ("self", "destination"),
    f"{_SENDER}:FederationSender.shutdown": ("self",),
    f"{_SENDER}:TransactionManager": ("hs",),
    f"{_SENDER}:TransactionManager.send_new_transaction": ("self", "destination", "pdus", "edus"),
    f"{_SENDER}:sent_pdus_destination_dist_total": None,
    f"{_SENDER}:sent_pdus_destination_dist_count": None,
    f"{_SENDER}:filter_destinations_by_retry_limiter": (
        "destinations",
        "clock",
        "store",
        "retry_due_within_ms",
    ),
    f"{_QUEUE}:PerDestinationQueue": ("hs", "transaction_manager", "destination"),
    f"{_QUEUE}:PerDestinationQueue.send_pdu": ("self", "pdu"),
    f"{_QUEUE}:PerDestinationQueue.send_presence": ("self", "states", "start_loop"),
    f"{_QUEUE}:PerDestinationQueue.queue_read_receipt": ("self", "receipt"),
    f"{_QUEUE}:PerDestinationQueue.send_keyed_edu": ("self", "edu", "key"),
    f"{_QUEUE}:PerDestinationQueue.send_edu": ("self", "edu"),
    f"{_QUEUE}:PerDestinationQueue.attempt_new_transaction": ("self",),
    f"{_QUEUE}:PerDestinationQueue._start_catching_up": ("self",),
    f"{_QUEUE}:PerDestinationQueue._transaction_transmission_loop": ("self",),
    f"{_QUEUE}:CATCHUP_RETRY_INTERVAL": None,
    f"{_STORE}:DataStore.store_destination_rooms_entries": (
        "self",
        "destinations",
        "room_id",
        "stream_ordering",
    ),
    f"{_STORE}:DataStore.get_federation_out_pos": ("self", "typ"),
    f"{_STORE}:DataStore.get_catch_up_outstanding_destinations": ("self", "after_destination"),
    f"{_STORE}:DataStore.get_destination_retry_timings_batch": None,
    f"{_STORE}:DataStore.set_destination_retry_timings": (
        "self",
        "destination",
        "failure_ts",
        "retry_last_ts",
        "retry_interval",
    ),
    f"{_STORE}:DataStore.get_room_max_token": ("self",),
    "synapse.storage.database:DatabasePool.simple_upsert_many": (
        "self",
        "table",
        "key_names",
        "key_values",
        "value_names",
        "value_values",
        "desc",
    ),
    "synapse.handlers.presence:format_user_presence_state": ("state", "now", "include_user_id"),
    "synapse.federation.units:serialize_and_filter_pdus": ("pdus", "time_now"),
    "synapse.notifier:Notifier.notify_remote_server_up": ("self", "server"),
    "synapse.util.retryutils:get_retry_limiter": None,
    f"{_HEARING}:Authenticator.authenticate_request": ("self", "request", "content"),
    "synapse.logging.context:make_deferred_yieldable": None,
    "synapse.logging.context:PreserveLoggingContext": None,
    "synapse.storage.database:DatabasePool.runInteraction": None,
    "synapse.util.async_helpers:ObservableDeferred": None,
    "synapse.metrics:sent_transactions_counter": None,
    "synapse.metrics:LaterGauge.register_hook": ("self", "homeserver_instance_id", "hook"),
    "synapse.metrics:LaterGauge.unregister_hooks_for_homeserver_instance_id": (
        "self",
        "homeserver_instance_id",
    ),
    f"{_SENDER}:transaction_queue_pending_destinations_gauge": None,
    f"{_SENDER}:transaction_queue_pending_pdus_gauge": None,
    f"{_SENDER}:transaction_queue_pending_edus_gauge": None,
    f"{_SENDER}.transaction_manager:last_pdu_ts_metric": None,
    f"{_QUEUE}:PerDestinationQueue.pending_pdu_count": ("self",),
    f"{_QUEUE}:PerDestinationQueue.pending_edu_count": ("self",),
    f"{_QUEUE}:sent_edus_counter": None,
    f"{_QUEUE}:sent_edus_by_type": None,
    "synapse.http.matrixfederationclient:outgoing_requests_counter": None,
    "synapse.http.matrixfederationclient:incoming_responses_counter": None,
    "synapse.server:HomeServer.get_instance_id": ("self",),
    "synapse.server:HomeServer.get_instance_name": ("self",),
    "synapse.server:HomeServer.should_send_federation": ("self",),
    "synapse.config.workers:ShardedWorkerHandlingConfig.should_handle": ("self", "instance_name", "key"),
    "synapse.server:HomeServer.get_module_api_callbacks": None,
    f"{_DELIVERED}:FederatedEventDeliveryMethod": None,
    f"{_DELIVERED}:FederationModuleApiCallbacks.interested_in_events_delivered_over_federation": ("self",),
    f"{_DELIVERED}:FederationModuleApiCallbacks.notify_on_event_delivered_over_federation": (
        "self",
        "server_name",
        "events",
        "method",
    ),
    "synapse.logging.opentracing:extract_text_map": None,
    "synapse.logging.opentracing:set_tag": None,
    "synapse.logging.opentracing:start_active_span_follows_from": None,
    "synapse.logging.opentracing:tags": None,
    "synapse.logging.opentracing:whitelisted_homeserver": ("destination",),
    "synapse.server:HomeServer.run_as_background_process": None,
    # What asks homeservers, and reads its agent each time it does.
    "synapse.server:HomeServer.get_federation_http_client": ("self",),
    "synapse.http.client:BlocklistingAgentWrapper": ("agent", "ip_blocklist", "ip_allowlist"),
    # What asks everybody else.
    "synapse.http.client:SimpleHttpClient": ("hs", "treq_args", "ip_allowlist", "ip_blocklist", "use_proxy"),
}

# What an object has is seen in the code that gives it to it, or uses it.
_ATTRIBUTES: dict[str, tuple[str, ...]] = {
    f"{_ASKING}.__init__": ("agent",),
    f"{_ASKING}._send_request": ("agent",),
    "synapse.http.client:BaseHttpClient.request": ("agent",),
    f"{_HEARING}:Authenticator.__init__": ("notifier",),
    "synapse.notifier:Notifier.__init__": ("federation_sender",),
    "synapse.http.client:SimpleHttpClient.__init__": ("_ip_allowlist", "_ip_blocklist", "agent"),
    "synapse.module_api:ModuleApi.__init__": ("_hs",),
    f"{_QUEUE}:PerDestinationQueue.__init__": (
        "_catching_up",
        "_destination",
        "_last_successful_stream_ordering",
        "_new_data_to_send",
        "_pending_pdus",
        "_store",
        "transmission_loop_running",
    ),
    f"{_SENDER}:FederationSender.__init__": (
        "_federation_shard_config",
        "_instance_name",
        "_is_processing",
        "_is_shutdown",
        "_per_destination_queues",
        "_transaction_manager",
        "clock",
        "server_name",
        "store",
    ),
    f"{_SENDER}.transaction_manager:TransactionManager.__init__": ("_is_shutdown", "_store", "clock"),
}

# What writes media into files. Where it is otherwise, they pass through Python.
MEDIA: dict[str, tuple[str, ...]] = {
    "synapse.http.client:_ReadBodyWithMaxSizeProtocol.__init__": (
        "stream",
        "deferred",
        "length",
        "max_size",
    ),
    "synapse.http.client:_ReadBodyWithMaxSizeProtocol.dataReceived": ("length", "max_size"),
    "synapse.http.client:_MultipartParserProtocol.__init__": (
        "stream",
        "deferred",
        "max_length",
        "file_length",
        "total_length",
    ),
    "synapse.http.client:_MultipartParserProtocol.dataReceived": ("max_length", "total_length"),
    "synapse.media.media_storage:SHA256TransparentIOWriter.__init__": ("_hash", "_source"),
    "synapse.media.media_storage:SHA256TransparentIOWriter.hexdigest": ("_hash",),
}


def missing() -> list[str]:
    """What this Synapse lacks, or calls otherwise; nothing when the module can work with it."""
    return lacking({**_CALLS, **nearest(version()).calls}, _ATTRIBUTES)


def lacking(calls: Calls, all_attributes: Mapping[str, tuple[str, ...]]) -> list[str]:
    """What of these ``calls`` and attributes is not as it is said to be."""
    found: list[str] = []
    for name, parameters in calls.items():
        try:
            thing = _find(name)
            is_as_known = parameters is None or _parameters(thing) == parameters
        except (ImportError, AttributeError, TypeError, ValueError):
            found.append(f"{name} (not there)")
            continue
        if not is_as_known:
            found.append(f"{name} (other parameters)")
    for name, attributes in all_attributes.items():
        try:
            known = _find(name).__code__.co_names
        except (ImportError, AttributeError):
            found.append(f"{name} (not there)")
            continue
        found += [f"{name} has no {one}" for one in attributes if one not in known]
    return found


def version() -> str:
    """The release that is installed."""
    return metadata.version("matrix-synapse")


def _find(name: str) -> Any:
    module, _, path = name.partition(":")
    thing: Any = importlib.import_module(module)
    for part in path.split("."):
        # As it stands there: some of them cannot be had from a class.
        thing = inspect.getattr_static(thing, part)
    return thing


def _parameters(thing: Any) -> tuple[str, ...]:
    return tuple(inspect.signature(thing).parameters)
