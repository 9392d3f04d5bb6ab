"""Ending use before its time: revocations, which are for good, and locks, which end by themselves or are lifted."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Literal

from trunkline.client.api_transport import ApiTransport, path_of
from trunkline.client.pages import read_pages, read_record
from trunkline.client.records.endings import Lock, Revocation

EndingKind = Literal["token", "node", "certificate", "workspace"]


class EndingsApi:
    """Revocations and locks."""

    def __init__(self, transport: ApiTransport) -> None:
        self._transport = transport

    async def revoke(self, kind: EndingKind, identifier: str) -> int:
        """Revoke a token, node, certificate or workspace; returns the number of the trust document that says so."""
        document = {"kind": kind, "id": identifier}
        answer = await self._transport.call("POST", path_of("api", "2.0", "revocations"), document=document)
        return int(answer.get("sequence", 0))

    async def get_revocation(self, kind: EndingKind, identifier: str) -> Revocation:
        """One revocation, with its adoption."""
        path = path_of("api", "2.0", "revocations", kind, identifier)
        return read_record(Revocation, await self._transport.call("GET", path))

    async def list_revocations(self, *, kind: EndingKind | None = None) -> AsyncIterator[Revocation]:
        """Every revocation in force, or those of one kind, in the order in which they were made."""
        path = path_of("api", "2.0", "revocations")
        async for revocation in read_pages(self._transport, path, "revocations", Revocation, {"kind": kind}):
            yield revocation

    async def lock(self, kind: EndingKind, identifier: str, *, lifetime_seconds: int, reason: str) -> Lock:
        """Keep a token, node, certificate or workspace from use for a while."""
        document = {"kind": kind, "id": identifier, "lifetime_seconds": lifetime_seconds, "reason": reason}
        answer = await self._transport.call("POST", path_of("api", "2.0", "locks"), document=document)
        return read_record(Lock, answer)

    async def get_lock(self, lock_id: str) -> Lock:
        """One lock, with its adoption."""
        return read_record(Lock, await self._transport.call("GET", path_of("api", "2.0", "locks", lock_id)))

    async def list_locks(self, *, kind: EndingKind | None = None, ended: bool = False) -> AsyncIterator[Lock]:
        """Every lock in force, or those of one kind; with `ended`, also those that ended in the last month."""
        path, query = path_of("api", "2.0", "locks"), {"kind": kind, "ended": "true" if ended else None}
        async for lock in read_pages(self._transport, path, "locks", Lock, query):
            yield lock

    async def lift_lock(self, lock_id: str) -> Lock:
        """End a lock before its time."""
        return read_record(Lock, await self._transport.call("DELETE", path_of("api", "2.0", "locks", lock_id)))
