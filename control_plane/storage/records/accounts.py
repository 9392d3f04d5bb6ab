"""The account, which owns everything, its operators, and its workspaces."""

from typing import Any

from sqlalchemy import JSON, ForeignKey
from sqlalchemy.orm import Mapped, mapped_column

from control_plane.storage.records.record import Record


class Account(Record):
    """The owner of everything; exactly one row."""

    __tablename__ = "accounts"

    account_id: Mapped[str] = mapped_column(primary_key=True)
    page_key: Mapped[str]
    trust_sequence: Mapped[int]
    trust_change_time: Mapped[int]
    trust_fingerprint: Mapped[str | None]
    creation_time: Mapped[int]


class Operator(Record):
    """A holder of an operator token."""

    __tablename__ = "operators"

    operator_id: Mapped[str] = mapped_column(primary_key=True)
    token_sha256: Mapped[str] = mapped_column(unique=True)
    creation_time: Mapped[int]


class Workspace(Record):
    """A tenant; since `delete_time` it is none any more, has no name, and what is left in it goes in pieces."""

    __tablename__ = "workspaces"

    workspace_id: Mapped[str] = mapped_column(primary_key=True)
    account_id: Mapped[str] = mapped_column(ForeignKey(Account.account_id))
    workspace: Mapped[str] = mapped_column(unique=True)
    creation_time: Mapped[int]
    quotas: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))
    delete_time: Mapped[int | None]
