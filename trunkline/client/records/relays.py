"""Relays, the tokens they enrol with, and where they are reached."""

from __future__ import annotations

from pydantic import Field

from trunkline.client.records.record import BEARER_FORM, Record


class RelayJoinToken(Record):
    """A single-use token by which one relay enrols."""

    join_token: str = Field(repr=False, pattern=BEARER_FORM)
    expire_time: int = 0


class Relay(Record):
    """An enrolled relay; `trust_sequence` is the newest trust document that it has reported to follow."""

    relay_id: str
    name: str = ""
    url: str | None = None
    dns_names: list[str] = Field(default_factory=list)
    trust_sequence: int | None = None
    creation_time: int = 0
    last_seen_time: int | None = None


class RelayAddress(Record):
    """Where a relay is reached: ``https://host:port``."""

    url: str
    relay_id: str = ""
