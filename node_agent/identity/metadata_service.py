"""The cloud's instance metadata service: asked politely, and never by way of anybody else.

All clouds have it at one link-local address. What it hands out are credentials, so it is asked without a proxy and
without following redirects, and with the header that each cloud demands against forwarded requests.
"""

import asyncio
import json
import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import aiohttp

from trunkline.client.connection_failures import failure_reason

MAX_ANSWER_BYTES = 64 * 1024
REQUEST_SECONDS = 5.0
ATTEMPTS = 5
FIRST_PAUSE_SECONDS = 1.0
# 410 says that the service is being updated, which takes up to 70 s.
UPDATING_STATUS = 410
UPDATING_PAUSE_SECONDS = 15.0
RETRIED_STATUSES = frozenset({404, 410, 429, 500, 502, 503, 504})


class MetadataUnavailable(Exception):  # noqa: N818 - a state of the world
    """The metadata service gives no answer; the message says why, `permanent` whether asking again is of no use."""

    def __init__(self, message: str, *, permanent: bool) -> None:
        super().__init__(message)
        self.permanent = permanent


@dataclass(frozen=True, slots=True)
class MetadataAnswer:
    """What it said with status 200."""

    body: bytes
    headers: Mapping[str, str]

    @property
    def text(self) -> str:
        """The body, as the plain text that it is."""
        return self.body.decode("utf-8", "replace").strip()

    def member(self, name: str) -> str:
        """A member of the JSON object that it is.

        Raises:
            MetadataUnavailable: it is no JSON object, or has no such text.
        """
        value = _object_of(self.body).get(name)
        if not isinstance(value, str) or not value:
            raise MetadataUnavailable(f"the metadata service's answer has no {name}", permanent=False)
        return value


class MetadataService:
    """Asks at one address."""

    def __init__(self, url: str, rng: random.Random, *, first_pause_seconds: float = FIRST_PAUSE_SECONDS) -> None:
        self._url = url
        self._rng = rng
        self._first_pause_seconds = first_pause_seconds

    async def ask(
        self, path: str, headers: Mapping[str, str], query: Mapping[str, str] | None = None, *, method: str = "GET"
    ) -> MetadataAnswer:
        """Ask for what is at `path`.

        Throttling, updates and failures of the service are waited out with growing pauses, as its guidance asks.

        Raises:
            MetadataUnavailable: it did not answer usefully in `ATTEMPTS` attempts, or said no.
        """
        pause = self._first_pause_seconds
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=REQUEST_SECONDS)) as session:
            for attempt in range(1, ATTEMPTS + 1):
                status, outcome = await self._once(session, method, path, headers, query)
                if isinstance(outcome, MetadataAnswer):
                    return outcome
                if status is not None and status not in RETRIED_STATUSES:
                    raise MetadataUnavailable(outcome, permanent=True)
                if attempt < ATTEMPTS:
                    factor = UPDATING_PAUSE_SECONDS if status == UPDATING_STATUS else 1.0
                    await asyncio.sleep(pause * factor * self._rng.uniform(0.8, 1.2))
                    pause *= 2
        raise MetadataUnavailable(str(outcome), permanent=False)

    async def _once(
        self,
        session: aiohttp.ClientSession,
        method: str,
        path: str,
        headers: Mapping[str, str],
        query: Mapping[str, str] | None,
    ) -> tuple[int | None, MetadataAnswer | str]:
        """Ask once; return the status, and the answer or what to say of its absence."""
        try:
            async with session.request(
                method, self._url + path, params=query, headers=dict(headers), allow_redirects=False
            ) as response:
                body = await response.content.read(MAX_ANSWER_BYTES)
        except (TimeoutError, aiohttp.ClientError, OSError) as error:
            return None, f"the metadata service does not answer: {_reason(error)}"
        if response.status == 200 and body:
            return 200, MetadataAnswer(body, response.headers)
        document = _object_of(body)
        said = document.get("error_description") or document.get("error") or "nothing useful in its answer"
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
    return failure_reason(error)
