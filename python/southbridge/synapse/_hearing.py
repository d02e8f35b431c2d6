# Synapse is not in the venv of the checks.
# pyright: reportMissingImports=false
"""Whoever speaks to Synapse is there: what waits for him in the kernel is tried at once.

Synapse tells its sender only of those whom it backs off from, and of those whom the kernel tries, it does not.
"""

from __future__ import annotations

from typing import Any

from synapse.federation.transport.server._base import Authenticator

from southbridge.synapse._sender import KernelSender


def take_over() -> None:
    """Have the senders that are ours told who has signed a request."""
    authenticate = Authenticator.authenticate_request

    async def authenticate_request(self: Any, request: Any, content: Any) -> str:
        origin: str = await authenticate(self, request, content)
        sender = self.notifier.federation_sender
        if isinstance(sender, KernelSender):
            sender.heard_of(origin)
        return origin

    Authenticator.authenticate_request = authenticate_request
