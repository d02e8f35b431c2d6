"""A room that lives at one of the homeservers of a few lines, and that a real one can join."""

from __future__ import annotations

import json
import time
import urllib.parse
from typing import Any

from .homeservers import Asked, Homeserver, Reply, seal


class Room:
    """Of version 10; everybody may join."""

    def __init__(self, host: Homeserver) -> None:
        self._host = host
        self.id = f"!room:{host.name}"
        self._creator = f"@user:{host.name}"
        self._state: dict[str, dict[str, Any]] = {}
        self._last = ""
        self.joined: list[str] = []
        self._add("m.room.create", "", {"creator": self._creator, "room_version": "10"})
        self._add("m.room.member", self._creator, {"membership": "join"})
        self._add("m.room.power_levels", "", {"users": {self._creator: 100}})
        self._add("m.room.join_rules", "", {"join_rule": "public"})
        host.answers["/_matrix/federation/v1/make_join/"] = self._make_join
        host.answers["/_matrix/federation/v2/send_join/"] = self._send_join

    def _event(self, kind: str, state_key: str, sender: str, content: dict[str, Any]) -> dict[str, Any]:
        return {
            "type": kind,
            "state_key": state_key,
            "sender": sender,
            "room_id": self.id,
            "content": content,
            "auth_events": list(self._state),
            "prev_events": [self._last] if self._last else [],
            "depth": len(self._state) + 1,
            "origin_server_ts": int(time.time() * 1000),
        }

    def _add(self, kind: str, state_key: str, content: dict[str, Any]) -> None:
        event = self._event(kind, state_key, self._creator, content)
        self._last = seal(self._host, event)
        self._state[self._last] = event

    def _make_join(self, asked: Asked) -> Reply:
        user = urllib.parse.unquote(asked.target.partition("?")[0].rpartition("/")[2])
        kept = [name for name, event in self._state.items() if event["type"] != "m.room.member"]
        event = {**self._event("m.room.member", user, user, {"membership": "join"}), "auth_events": kept}
        return Reply(json.dumps({"room_version": "10", "event": event}).encode())

    def _send_join(self, asked: Asked) -> Reply:
        event = json.loads(asked.body)
        self.joined.append(event["sender"])
        state = list(self._state.values())
        answer = {
            "origin": self._host.name,
            "event": event,
            "state": state,
            "auth_chain": state,
            "members_omitted": False,
        }
        return Reply(json.dumps(answer).encode())
