"""The certificates that were issued."""

from sqlalchemy import Index, Text
from sqlalchemy.orm import Mapped, mapped_column

from control_plane.storage.records.record import Record


class Certificate(Record):
    """An SVID that was issued; `subject_id` is a node or a relay.

    `origin` says how it came: bootstrap, renewal, late_renewal, enrol, taken_back. `issue_time` puts those of a
    subject in order, see `certificates.next_issue_time`. `sealing_key` becomes the node's when it proves to hold this
    certificate's key.
    """

    __tablename__ = "certificates"
    __table_args__ = (Index(None, "subject_id", "csr_sha256"),)

    serial: Mapped[str] = mapped_column(primary_key=True)
    subject_kind: Mapped[str]
    subject_id: Mapped[str]
    origin: Mapped[str]
    csr_sha256: Mapped[str]
    chain: Mapped[str] = mapped_column(Text())
    sealing_key: Mapped[str | None]
    issue_time: Mapped[int]
    expire_time: Mapped[int] = mapped_column(index=True)
    confirm_time: Mapped[int | None]
