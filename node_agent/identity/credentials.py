"""The identity in force in this process, and when its parts are to be renewed."""

import base64
import binascii
import json
import random
from collections.abc import Callable
from dataclasses import dataclass

from node_agent.identity.node_identity import IdentityStore, NodeIdentity
from trunkline.runtime.secret import Secret

EARLIEST, LATEST = 0.5, 0.7
# What a listen token without readable times is taken to live; it is only ours to plan with.
FALLBACK_LIFE_SECONDS = 3600.0


@dataclass(frozen=True, slots=True)
class Span:
    """From when to when something is valid, in seconds since the epoch."""

    start: float
    end: float

    def renew_at(self, rng: random.Random) -> float:
        """Return a random moment between 50 and 70 % of the life, so that a fleet does not renew at once."""
        return self.start + (self.end - self.start) * rng.uniform(EARLIEST, LATEST)


def certificate_span(node: NodeIdentity) -> Span:
    """Return the life of the node's certificate."""
    return Span(node.identity.chain.not_before, node.identity.not_after)


def token_span(token: Secret, now: float) -> Span:
    """Return the life of a listen token by its own `iat` and `exp`.

    The signature is not checked here: the token is for others to verify, and a wrong time only changes when a new one
    is asked for.
    """
    try:
        payload = token.reveal().split(".")[1]
        claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
        start, end = float(claims["iat"]), float(claims["exp"])
    except (IndexError, KeyError, ValueError, TypeError, binascii.Error):
        return Span(now, now + FALLBACK_LIFE_SECONDS)
    return Span(start, end) if end > start else Span(now, now + FALLBACK_LIFE_SECONDS)


class Credentials:
    """Holds the node's identity; a new one is on the disk before anybody hears of it."""

    def __init__(self, node: NodeIdentity, store: IdentityStore) -> None:
        self._store = store
        self._subscribers: list[Callable[[NodeIdentity, NodeIdentity], None]] = []
        self.current = node

    def subscribe(self, changed: Callable[[NodeIdentity, NodeIdentity], None]) -> None:
        """Have `changed` called with the identity before and the one now."""
        self._subscribers.append(changed)

    def replace(self, node: NodeIdentity) -> None:
        """Store a renewed identity, and tell everybody.

        Raises:
            KeyFileError: it cannot be stored; the old one stays.
        """
        self._store.save(node)
        self.adopt(node)

    def adopt(self, node: NodeIdentity) -> None:
        """Tell everybody of an identity that is stored already."""
        before, self.current = self.current, node
        for changed in self._subscribers:
            changed(before, node)
