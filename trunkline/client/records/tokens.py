"""Tokens for calls."""

from __future__ import annotations

from pydantic import Field

from trunkline.client.records.record import BEARER_FORM, Record
from trunkline.client.records.relays import RelayAddress


class AccessToken(Record):
    """A call or workspace token with where to use it."""

    token: str = Field(repr=False, pattern=BEARER_FORM)
    token_id: str = ""
    expire_time: int
    host: str | None = None
    relays: list[RelayAddress] = Field(default_factory=list)
