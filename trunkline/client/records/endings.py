"""Revocations and locks, and how far they have come."""

from __future__ import annotations

from pydantic import ConfigDict, Field

from trunkline.client.records.record import Record


class Adopted(Record):
    """A relay or node that has a revocation or lock in force, and what it cut because of it.

    ``after_milliseconds`` is the time from the acknowledgement to the relay's report, by the control plane's clock.
    """

    relay_id: str | None = None
    name: str = ""
    node_id: str | None = None
    node: str = ""
    sequence: int | None = None
    time: int = 0
    after_milliseconds: int | None = None
    cut_milliseconds: int | None = None
    links: int = 0
    streams: int = 0
    exchanges: int = 0


class Awaited(Record):
    """A relay or node that has not reported yet; ``following`` says whether the relay is connected."""

    relay_id: str | None = None
    name: str = ""
    node_id: str | None = None
    node: str = ""
    following: bool | None = None
    last_seen_time: int | None = None


class Adoption(Record):
    """How far a revocation or lock has come; the lists of nodes name a hundred at most."""

    complete: bool = False
    relays: list[Adopted] = Field(default_factory=list)
    nodes: list[Adopted] = Field(default_factory=list)
    waiting_relays: list[Awaited] = Field(default_factory=list)
    waiting_relay_count: int = 0
    waiting_nodes: list[Awaited] = Field(default_factory=list)
    waiting_node_count: int = 0


class Revocation(Record):
    """One revocation in the trust document."""

    model_config = ConfigDict(extra="allow", frozen=True, defer_build=True)

    kind: str = ""
    id: str = ""
    sequence: int | None = None
    creation_time: int | None = None
    revoked_by: str | None = None
    expire_time: int | None = None
    adoption: Adoption | None = None


class Lock(Record):
    """Something that may not be used for a while; ``state`` is ``IN_FORCE``, ``LIFTED`` or ``EXPIRED``."""

    lock_id: str
    kind: str = ""
    id: str = ""
    reason: str = ""
    state: str = ""
    sequence: int | None = None
    creation_time: int = 0
    expire_time: int = 0
    locked_by: str | None = None
    lift_time: int | None = None
    lifted_by: str | None = None
    lift_sequence: int | None = None
    adoption: Adoption | None = None
