"""The relays of the account, and the tokens that they enrol with."""

from sqlalchemy.orm import Mapped, mapped_column

from control_plane.storage.records.record import Record


class RelayJoinToken(Record):
    """Leave for one relay to enrol under the DNS names that the operator gave."""

    __tablename__ = "relay_join_tokens"

    join_token_id: Mapped[str] = mapped_column(primary_key=True)
    token_sha256: Mapped[str] = mapped_column(unique=True)
    name: Mapped[str]
    dns_names: Mapped[list[str]]
    relay_id: Mapped[str | None]
    expire_time: Mapped[int]
    creation_time: Mapped[int]


class Relay(Record):
    """An enrolled relay; `url` is known once it has said on which port it listens."""

    __tablename__ = "relays"

    relay_id: Mapped[str] = mapped_column(primary_key=True)
    relay: Mapped[str] = mapped_column(unique=True)
    dns_names: Mapped[list[str]]
    url: Mapped[str | None]
    trust_sequence: Mapped[int | None]
    creation_time: Mapped[int]
    last_seen_time: Mapped[int | None]
