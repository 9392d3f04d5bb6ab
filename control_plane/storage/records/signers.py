"""The certificate authorities and token keys, and where the rotation of each kind stands."""

from typing import Any

from sqlalchemy import ForeignKey, Index, String
from sqlalchemy.orm import Mapped, mapped_column

from control_plane.storage.records.record import Record


class Signer(Record):
    """A certificate authority or a token key: its public side, and the names of its keys in the key store.

    `state` is trusted, left (others stand where it stood), revoked or withdrawn (it never signed). `tokens_until` is
    when the last token ends that an operator was given under it.
    """

    __tablename__ = "signers"
    __table_args__ = (Index(None, "kind", "state"),)

    signer_id: Mapped[str] = mapped_column(primary_key=True)
    kind: Mapped[str]
    form: Mapped[dict[str, Any]]
    key_names: Mapped[dict[str, str]]
    state: Mapped[str]
    creation_time: Mapped[int]
    end_time: Mapped[int | None]
    tokens_until: Mapped[int | None]


class Rotation(Record):
    """Where the rotation of one kind of signer stands; `version` grows with each step, and is what a step compares.

    `gate_sequence` is the number of the trust document that first says what this phase says.
    """

    __tablename__ = "rotations"

    kind: Mapped[str] = mapped_column(primary_key=True)
    version: Mapped[int]
    phase: Mapped[str]
    incumbent_id: Mapped[str] = mapped_column(ForeignKey(Signer.signer_id))
    candidate_id: Mapped[str | None] = mapped_column(ForeignKey(Signer.signer_id))
    step: Mapped[str | None]
    step_time: Mapped[int]
    stepped_by: Mapped[str] = mapped_column(String(512))
    gate_sequence: Mapped[int]
