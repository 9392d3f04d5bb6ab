"""Call tokens of one node, asked for once for each set of scopes and kept until shortly before they expire."""

from __future__ import annotations

import asyncio

from trunkline.client.records.tokens import AccessToken
from trunkline.client.workspace import WorkspaceApi
from trunkline.runtime.clock import Clock, SystemClock

EARLY_SECONDS = 60.0


class CallTokens:
    """The tokens that one program uses for one node."""

    def __init__(self, workspace: WorkspaceApi, node: str, *, clock: Clock | None = None) -> None:
        self._workspace = workspace
        self._node = node
        self._clock = clock or SystemClock()
        self._tokens: dict[frozenset[str], AccessToken] = {}
        self._asking = asyncio.Lock()

    async def get(self, *scopes: str) -> AccessToken:
        """A live token with exactly these scopes.

        Raises:
            TrunklineError: the control plane gives none.
        """
        key = frozenset(scopes)
        async with self._asking:
            token = self._tokens.get(key)
            if token is None or not self._is_live(token):
                token = await self._workspace.create_call_token(self._node, sorted(key))
                self._tokens[key] = token
        return token

    def forget(self) -> None:
        """Ask anew the next time: a relay or node did not accept a token."""
        self._tokens.clear()

    def _is_live(self, token: AccessToken) -> bool:
        return token.expire_time / 1000 - self._clock.now() > EARLY_SECONDS
