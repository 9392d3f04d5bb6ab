"""How far the reports of nodes and relays have been taken in, and what relays counted."""

from sqlalchemy import ForeignKey
from sqlalchemy.orm import Mapped, mapped_column

from control_plane.storage.records.nodes import Node
from control_plane.storage.records.record import Record
from control_plane.storage.records.relays import Relay


class NodeReporter(Record):
    """How far the reports of a node's agent have been taken in; one row a node, of the process heard last."""

    __tablename__ = "node_reporters"

    node_id: Mapped[str] = mapped_column(ForeignKey(Node.node_id, ondelete="CASCADE"), primary_key=True)
    reporter: Mapped[str]
    sequence: Mapped[int]
    dropped: Mapped[int]
    time: Mapped[int]


class Reporter(Record):
    """How far the reports of one process of a relay have been taken in."""

    __tablename__ = "reporters"

    relay_id: Mapped[str] = mapped_column(ForeignKey(Relay.relay_id, ondelete="CASCADE"), primary_key=True)
    reporter: Mapped[str] = mapped_column(primary_key=True)
    sequence: Mapped[int]
    dropped: Mapped[int]
    time: Mapped[int]


class ReportTotal(Record):
    """How many events of a kind a relay reported in one hour; `hour` is its first millisecond."""

    __tablename__ = "report_totals"

    relay_id: Mapped[str] = mapped_column(ForeignKey(Relay.relay_id, ondelete="CASCADE"), primary_key=True)
    hour: Mapped[int] = mapped_column(primary_key=True)
    type: Mapped[str] = mapped_column(primary_key=True)
    outcome: Mapped[str] = mapped_column(primary_key=True)
    total: Mapped[int]
