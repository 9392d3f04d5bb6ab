"""The cloud's instance metadata service, as far as the agent asks it: for a token of the managed identity."""

import asyncio
import json
import random
from typing import Any

import aiohttp

from trunkline.runtime.secret import Secret

API_VERSION = "2018-02-01"
MAX_ANSWER_BYTES = 64 * 1024
REQUEST_SECONDS = 5.0
ATTEMPTS = 5
FIRST_PAUSE_SECONDS = 1.0
# 410 says that the service is being updated, which takes up to 70 s.
UPDATING_STATUS = 410
UPDATING_PAUSE_SECONDS = 15.0
RETRIED_STATUSES = frozenset({404, 410, 429, 500, 502, 503, 504})


class MetadataUnavailable(Exception):  # noqa: N818 - a state of the world
    """The metadata service gives no token; the message says why, `permanent` whether asking again is of no use."""

    def __init__(self, message: str, *, permanent: bool) -> None:
        super().__init__(message)
        self.permanent = permanent


class MetadataService:
    """Asks at one address; never through a proxy, and never following a redirect, since the token is a credential."""

    def __init__(self, url: str, rng: random.Random, *, first_pause_seconds: float = FIRST_PAUSE_SECONDS) -> None:
        self._url = f"{url}/metadata/identity/oauth2/token"
        self._rng = rng
        self._first_pause_seconds = first_pause_seconds

    async def identity_token(self, audience: str, client_id: str | None) -> Secret:
        """Return a token of the machine's identity for `audience`; `client_id` names one of several identities.

        Throttling, updates and failures of the service are waited out with growing pauses, as its guidance asks.

        Raises:
            MetadataUnavailable: it did not answer usefully in `ATTEMPTS` attempts, or said no.
        """
        query = {"api-version": API_VERSION, "resource": audience}
        if client_id is not None:
            query["client_id"] = client_id
        pause = self._first_pause_seconds
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=REQUEST_SECONDS)) as session:
            for attempt in range(1, ATTEMPTS + 1):
                status, outcome = await self._ask(session, query)
                if isinstance(outcome, Secret):
                    return outcome
                if status is not None and status not in RETRIED_STATUSES:
                    raise MetadataUnavailable(outcome, permanent=True)
                if attempt < ATTEMPTS:
                    factor = UPDATING_PAUSE_SECONDS if status == UPDATING_STATUS else 1.0
                    await asyncio.sleep(pause * factor * self._rng.uniform(0.8, 1.2))
                    pause *= 2
        raise MetadataUnavailable(str(outcome), permanent=False)

    async def _ask(self, session: aiohttp.ClientSession, query: dict[str, str]) -> tuple[int | None, Secret | str]:
        """Ask once; return the status, and the token or what to say of its absence."""
        try:
            async with session.get(
                self._url, params=query, headers={"Metadata": "true"}, allow_redirects=False
            ) as response:
                body = await response.content.read(MAX_ANSWER_BYTES)
                document = _object_of(body)
        except (TimeoutError, aiohttp.ClientError, OSError) as error:
            return None, f"the metadata service does not answer: {_reason(error)}"
        token = document.get("access_token")
        if response.status == 200 and isinstance(token, str) and token:
            return 200, Secret(token)
        said = document.get("error_description") or document.get("error") or "no token in its answer"
        return response.status, f"the metadata service answered with status {response.status}: {str(said)[:200]}"


def _object_of(body: bytes) -> dict[str, Any]:
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    return document if isinstance(document, dict) else {}


def _reason(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return f"nothing within {REQUEST_SECONDS:g} s"
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
