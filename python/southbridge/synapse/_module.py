# Synapse is not in the venv of the checks.
# pyright: reportMissingImports=false
"""The entry under ``modules:``. What it replaces it replaces when the configuration is read: nothing exists yet then."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from southbridge.synapse import _needs
from southbridge.synapse._releases import nearest
from southbridge.synapse._settings import Settings

logger = logging.getLogger("southbridge.synapse")


class Module:
    """Hands Synapse's outbound federation to the kernel in this process, or leaves Synapse as it is and says why."""

    _verdict = "the configuration was not read"
    _is_taken_over = False

    def __init__(self, config: Settings, api: Any) -> None:
        # Now there is somewhere to say it.
        if not self._is_taken_over:
            logger.error("%s", self._verdict)
            return
        if api._hs.should_send_federation():
            logger.info("%s", self._verdict)
        else:
            # Another process does: `federation_sender_instances`.
            logger.info("southbridge sends nothing in the process %s", api._hs.get_instance_name())
        if config.agent:
            from southbridge.synapse._agent import take_over

            take_over(api._hs, config)

    @classmethod
    def parse_config(cls, config: Mapping[str, Any]) -> Settings:
        """Read the settings, and take over the sender of Synapse if it is one that is known."""
        settings = Settings.parse(config)
        cls._is_taken_over, cls._verdict = _take_over(settings)
        return settings


def _take_over(settings: Settings) -> tuple[bool, str]:
    version = _needs.version()
    missing = _needs.missing()
    if missing:
        return False, f"Synapse {version} sends by itself: southbridge does not know it: {'; '.join(missing)}"
    if version not in _needs.TESTED and not settings.allow_untested:
        tested = ", ".join(_needs.TESTED)
        return False, (
            f"Synapse {version} sends by itself: southbridge was tested with {tested}; "
            "set allow_untested to have it tried"
        )
    import synapse.server

    from southbridge.synapse import _hearing
    from southbridge.synapse._sender import make_sender

    synapse.server.FederationSender = make_sender(settings, nearest(version))
    _hearing.take_over()
    if settings.clients:
        from southbridge.synapse import _web

        _web.take_over(settings)
    return True, f"southbridge sends for Synapse {version}"
