"""What ended before its time, the trust documents that said so, and how far these have come."""

from sqlalchemy import ForeignKey, Index, String
from sqlalchemy.orm import Mapped, mapped_column

from control_plane.storage.records.record import Record
from control_plane.storage.records.relays import Relay


class Revocation(Record):
    """Something that ended before its time; without `expire_time` it is kept for good."""

    __tablename__ = "revocations"

    kind: Mapped[str] = mapped_column(primary_key=True)
    id: Mapped[str] = mapped_column(primary_key=True)
    sequence: Mapped[int] = mapped_column(index=True)
    expire_time: Mapped[int | None]
    creation_time: Mapped[int]
    revoked_by: Mapped[str]


class Lock(Record):
    """A revocation with an expiry and a reason, which can be lifted; kept for a while after it has ended.

    `ended` is set in the transaction that lifts it, or in the one that notes that it has expired; what is in force is
    told by `lift_time` and `expire_time` alone. `sequence` is the number of the first trust document that has it,
    `lift_sequence` of the first that has it no more.
    """

    __tablename__ = "locks"
    __table_args__ = (Index(None, "ended", "expire_time"), Index(None, "kind", "id"))

    lock_id: Mapped[str] = mapped_column(primary_key=True)
    kind: Mapped[str]
    id: Mapped[str]
    reason: Mapped[str] = mapped_column(String(512))
    lifetime_seconds: Mapped[int]
    sequence: Mapped[int] = mapped_column(index=True)
    creation_time: Mapped[int]
    expire_time: Mapped[int]
    locked_by: Mapped[str] = mapped_column(String(512))
    ended: Mapped[bool]
    lift_time: Mapped[int | None]
    lifted_by: Mapped[str | None] = mapped_column(String(512))
    lift_sequence: Mapped[int | None]


class TrustPublication(Record):
    """A trust document that was published, by its number and the fingerprint of its content.

    One number stands for one content, but for numbers that were used twice: before a restore, and after it.
    """

    __tablename__ = "trust_publications"

    sequence: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    fingerprint: Mapped[str] = mapped_column(primary_key=True)
    time: Mapped[int] = mapped_column(index=True)


class TrustAdoption(Record):
    """A trust document that a relay has reported to be in force there; `time` is when we heard of it."""

    __tablename__ = "trust_adoptions"

    relay_id: Mapped[str] = mapped_column(ForeignKey(Relay.relay_id, ondelete="CASCADE"), primary_key=True)
    sequence: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    cut_milliseconds: Mapped[int]
    time: Mapped[int] = mapped_column(index=True)


class TrustCut(Record):
    """What a relay or a node has cut because of one revocation or lock, under the document with this number."""

    __tablename__ = "trust_cuts"

    cause: Mapped[str] = mapped_column(primary_key=True)
    kind: Mapped[str] = mapped_column(primary_key=True)
    id: Mapped[str] = mapped_column(primary_key=True)
    adopter_id: Mapped[str] = mapped_column(primary_key=True)
    sequence: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    links: Mapped[int]
    streams: Mapped[int]
    exchanges: Mapped[int]
    time: Mapped[int] = mapped_column(index=True)


class TrustReport(Record):
    """What a node or relay last reported of the trust that it holds, and of what it stands on itself."""

    __tablename__ = "trust_reports"

    subject_id: Mapped[str] = mapped_column(primary_key=True)
    kind: Mapped[str]
    trust_sequence: Mapped[int]
    root: Mapped[str | None]
    token_key: Mapped[str | None]
    report_time: Mapped[int]
