"""Rotations of the certificate authority and of the signing key: where they stand, their steps, all steps in turn."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Literal

from trunkline.client.api_transport import ApiTransport
from trunkline.client.errors import ApiError, TrunklineError
from trunkline.client.pages import read_record
from trunkline.client.records.rotations import Rotation

RotationKind = Literal["ca", "signing-key"]
RotationStep = Literal["prepare", "activate", "retire", "rollback"]

POLL_SECONDS = 1.0
CONFLICT = 409
_ONWARDS: dict[str, RotationStep] = {"steady": "prepare", "prepared": "activate", "activated": "retire"}


class RotationStopped(TrunklineError):  # noqa: N818 - what happened
    """The rotation is not on its way to a new signer: somebody rolled it back."""


class RotationApi:
    """The rotation of one kind of signer."""

    def __init__(self, transport: ApiTransport, kind: RotationKind, path: Callable[..., Awaitable[str]]) -> None:
        self._transport = transport
        self._kind = kind
        self._path = path

    async def get(self) -> Rotation:
        """Where the rotation stands, and what stands before each step."""
        path = await self._path("rotations", self._kind)
        return read_record(Rotation, await self._transport.call("GET", path))

    async def take(
        self, step: RotationStep, *, version: int | None = None, force: bool = False, reason: str = ""
    ) -> Rotation:
        """Take a step; `version` is the one that was seen, `force` ignores the gate and needs a `reason`.

        Raises:
            ApiError: 409 where the phase has no such step, somebody else took one, or the gate is shut.
        """
        document: dict[str, object] = {"force": force, "reason": reason}
        if version is not None:
            document["version"] = version
        path = await self._path("rotations", self._kind, step)
        return read_record(Rotation, await self._transport.call("POST", path, document=document))

    async def rotate(self, *, poll_seconds: float = POLL_SECONDS) -> AsyncIterator[Rotation]:
        """Take every step up to a new signer, each as soon as its gate is open, and yield what is seen on the way.

        A rotation under way is gone on with. The last rotation that is yielded is steady again.

        Raises:
            RotationStopped: it was rolled back, before or meanwhile.
        """
        seen = await self.get()
        begun = False
        while True:
            yield seen
            if begun and seen.phase == "steady":
                if seen.step != "retire":
                    raise RotationStopped("the rotation was rolled back meanwhile")
                return
            step = _ONWARDS.get(seen.phase)
            if step is None:
                raise RotationStopped("the rotation was rolled back: activate it again, or retire it, by hand")
            seen = await self._onwards(seen, step, poll_seconds)
            begun = begun or seen.phase != "steady"

    async def _onwards(self, seen: Rotation, step: RotationStep, poll_seconds: float) -> Rotation:
        """Take the step if its gate is open, or wait a moment; a gate that has shut meanwhile is waited for too."""
        verdict = seen.next(step)
        if verdict is not None and verdict.open:
            try:
                return await self.take(step, version=seen.version)
            except ApiError as error:
                if error.status != CONFLICT or not error.details:
                    raise
        await asyncio.sleep(poll_seconds)
        return await self.get()
