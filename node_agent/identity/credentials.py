"""The identity in force in this process, and when its parts are to be renewed."""

import base64
import binascii
import json
from collections.abc import Callable

from certs.lifespan import Lifespan, renewal_moment
from node_agent.identity.node_identity import IdentityStore, NodeIdentity
from trunkline.runtime.secret import Secret
from trunkline.runtime.threads import in_thread

# What a listen token without readable times is taken to live; it is only ours to plan with.
FALLBACK_LIFE_SECONDS = 3600.0


def renew_pair_at(node: NodeIdentity, now: float) -> float:
    """Return when to renew leaf and listen token, which go together; a moment that was promised holds if it is sane."""
    token = token_lifespan(node.listen_token, now)
    return renewal_moment(node.lifespan, token, node.identity.serial, first=node.first, promised=node.renew_at)


def pair_ends_at(node: NodeIdentity, now: float) -> float:
    """Return when the first of leaf and listen token ends."""
    return min(node.lifespan.end, token_lifespan(node.listen_token, now).end)


def token_lifespan(token: Secret, now: float) -> Lifespan:
    """Return the life of a listen token by its own `iat` and `exp`.

    The signature is not checked here: the token is for others to verify, and a wrong time only changes when a new one
    is asked for.
    """
    try:
        payload = token.reveal().split(".")[1]
        claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
        start, end = float(claims["iat"]), float(claims["exp"])
    except (IndexError, KeyError, ValueError, TypeError, binascii.Error):
        return Lifespan(now, now + FALLBACK_LIFE_SECONDS)
    return Lifespan(start, end) if end > start else Lifespan(now, now + FALLBACK_LIFE_SECONDS)


class Credentials:
    """Holds the node's identity; a new one is on the disk before anybody hears of it."""

    def __init__(self, node: NodeIdentity, store: IdentityStore) -> None:
        self._store = store
        self._subscribers: list[Callable[[NodeIdentity, NodeIdentity], None]] = []
        self.current = node

    def subscribe(self, changed: Callable[[NodeIdentity, NodeIdentity], None]) -> None:
        """Have `changed` called with the identity before and the one now."""
        self._subscribers.append(changed)

    async def replace(self, node: NodeIdentity) -> None:
        """Store a renewed identity, and tell everybody.

        Raises:
            KeyFileError: it cannot be stored; the old one stays.
        """
        await in_thread(self._store.save, node)
        self.adopt(node)

    def adopt(self, node: NodeIdentity) -> None:
        """Tell everybody of an identity that is stored already."""
        before, self.current = self.current, node
        for changed in self._subscribers:
            changed(before, node)
