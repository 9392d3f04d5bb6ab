"""Requests to clouds, bounded: no redirects, a deadline, a largest answer, and one shape of what came back."""

from collections.abc import Mapping
from dataclasses import dataclass

import aiohttp

from control_plane.attestation.refusals import AttestationRefused, unverifiable

REQUEST_SECONDS = 10.0
MAX_ANSWER_BYTES = 1024 * 1024


@dataclass(frozen=True, slots=True)
class CloudAnswer:
    """A whole answer."""

    status: int
    content_type: str
    body: bytes


class Outbound:
    """Asks one cloud; the URL is the caller's, never a stranger's."""

    def __init__(self, session: aiohttp.ClientSession, whom: str) -> None:
        """Prepare; `whom` names the cloud in messages."""
        self._session = session
        self._whom = whom

    async def ask(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        *,
        body: bytes | None = None,
        most_bytes: int = MAX_ANSWER_BYTES,
    ) -> CloudAnswer:
        """Send one request and return the answer, whatever its status.

        Raises:
            AttestationRefused: there is no answer, or it is too long.
        """
        timeout = aiohttp.ClientTimeout(total=REQUEST_SECONDS)
        try:
            async with self._session.request(
                method, url, headers=dict(headers), data=body, allow_redirects=False, timeout=timeout
            ) as response:
                return CloudAnswer(response.status, response.content_type, await self._read(response, most_bytes))
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise self.failed(type(error).__name__) from None

    def failed(self, reason: str) -> AttestationRefused:
        """The refusal for want of a usable answer."""
        return unverifiable(f"the evidence cannot be verified now: {self._whom} gives no usable answer ({reason})")

    async def _read(self, response: aiohttp.ClientResponse, most_bytes: int) -> bytes:
        body = bytearray()
        async for piece in response.content.iter_any():
            body += piece
            if len(body) > most_bytes:
                raise self.failed(f"more than {most_bytes} bytes")
        return bytes(body)
