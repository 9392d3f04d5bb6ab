"""How machines become nodes: join tokens, join policies, and requests that wait for an operator."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from trunkline.client.records.record import BEARER_FORM, Record


class JoinToken(Record):
    """A join token's record; the token itself is only in the answer to its creation."""

    join_token_id: str = ""
    join_token: str | None = Field(default=None, repr=False, pattern=BEARER_FORM)
    node_name: str | None = None
    cluster_id: str | None = None
    labels: dict[str, str] = Field(default_factory=dict)
    uses: int | None = None
    used: int | None = None
    creation_time: int = 0
    expire_time: int = 0


class JoinPolicy(Record):
    """Which machines become nodes by what their cloud says of them."""

    join_policy_id: str
    join_policy: str
    platform: str
    conditions: dict[str, Any] = Field(default_factory=dict)
    node_name: str | None = None
    labels: dict[str, str] = Field(default_factory=dict)
    cluster_id: str | None = None
    reattestation: dict[str, Any] = Field(default_factory=dict)
    creation_time: int = 0


class JoinRequest(Record):
    """A known machine that waits for an operator, or did."""

    join_request_id: str
    state: str
    node_id: str = ""
    machine_id: str = ""
    join_policy_id: str = ""
    machine: dict[str, str] = Field(default_factory=dict)
    csr_sha256: str = ""
    source_address: str | None = None
    creation_time: int = 0
    last_time: int = 0
    expire_time: int = 0
    decided_by: str | None = None
