# Synapse is not in the venv of the checks.
# pyright: reportMissingImports=false
"""What Synapse asks others than homeservers for: application services, push gateways, identity servers, previews of URLs.

All of it goes through clients of one class, each of which keeps an agent of its own. Such an agent is the kernel's, with
the client's rules for addresses, unless something stands in ``homeserver.yaml`` that the kernel does not do.
"""

from __future__ import annotations

import logging
from functools import wraps
from typing import Any

from synapse.http.client import BlocklistingAgentWrapper, SimpleHttpClient
from twisted.internet.defer import Deferred
from twisted.internet.error import DNSLookupError
from twisted.web.http_headers import Headers
from twisted.web.iweb import IAgent
from zope.interface import implementer

from southbridge import AddressDeniedError, Timeout
from southbridge.synapse._media import FileAgent
from southbridge.synapse._reactor import reader_of
from southbridge.synapse._settings import Settings, web_client

logger = logging.getLogger("southbridge.synapse")

# What Synapse has on the disk when this is imported.
_stock = SimpleHttpClient.__init__


def take_over(settings: Settings) -> None:
    """Have every client that is made from now on ask by the kernel, if the kernel sends for its homeserver."""

    @wraps(_stock)
    def init(self: Any, hs: Any, *args: Any, **more: Any) -> None:
        _stock(self, hs, *args, **more)
        if reader_of(hs, settings) is None or why_not(hs.config) is not None:
            return
        blocked, allowed = self._ip_blocklist, self._ip_allowlist
        self.agent = WebAgent(FileAgent(web_client(blocked, allowed), timeout=PATIENCE))
        if blocked:
            # As Synapse wraps its own: what is asked for by a blocked address is refused before anything is done.
            self.agent = BlocklistingAgentWrapper(self.agent, ip_blocklist=blocked, ip_allowlist=allowed)

    SimpleHttpClient.__init__ = init


def why_not(config: Any) -> str | None:
    """What in ``config`` keeps Synapse's own agents in their places."""
    proxy = config.server.proxy_config
    if proxy is not None and (proxy.http_proxy or proxy.https_proxy):
        return "a proxy is set"
    if config.tls.use_insecure_ssl_client_just_for_testing_do_not_use:
        return "use_insecure_ssl_client_just_for_testing_do_not_use is set"
    return None


@implementer(IAgent)  # pyright: ignore[reportUntypedClassDecorator]
class WebAgent:
    """Fails for what must not be dialled as Synapse's own agents do, whose callers tell it from other failures."""

    def __init__(self, agent: Any) -> None:
        self._agent = agent

    def request(
        self,
        method: bytes,
        uri: bytes,
        headers: Headers | None = None,
        bodyProducer: Any = None,  # noqa: N803
    ) -> Deferred[Any]:
        answer: Deferred[Any] = self._agent.request(method, uri, headers, bodyProducer)
        return answer.addErrback(as_unknown)


def as_unknown(failure: Any) -> Any:
    """A name that leads where nobody may go leads nowhere: so Synapse has it."""
    denied = failure.value.__cause__
    if not isinstance(denied, AddressDeniedError):
        return failure
    raise DNSLookupError(str(denied)) from denied


# Synapse has timeouts of its own for most of them; this is for a body that stands still.
PATIENCE = Timeout(None, connect=15.0, read=120.0)
