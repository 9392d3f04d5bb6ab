"""Reports of nodes: taken once; adoption and cuts go to the records, cuts to the audit."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from control_plane.storage import adoptions
from control_plane.storage.adoptions import CutReport, summed
from control_plane.storage.audit import Actor, Happening, append
from control_plane.storage.records.reports import NodeReporter
from control_plane.storage.reports import ReportItem

TYPES = frozenset({"trust", "refusal", "command_refusal", "shell", "file"})
_FILE_ACTIONS = {
    "read": "file.read",
    "hashed": "file.hash",
    "written": "file.write",
    "listed": "file.list",
    "made": "file.make",
    "refused": "file.refuse",
}
_OF_A_LATER_RELEASE = "other"
"""What is done with a shell or a file that has no name here; the audit keeps the node's word for it."""
_SHELL_ACTIONS = {"opened": "shell.open", "ended": "shell.end"}
AUDITED = frozenset({"shell", "file"})
"""Types of which each item is a record of the audit."""
OTHER = "other"


def known_type(name: str) -> str:
    """Return the type of an item if it is one of those we know."""
    return name if name in TYPES else OTHER


async def take(
    session: AsyncSession,
    node_id: str,
    reporter: str,
    sequence: int,
    items: Sequence[ReportItem],
    *,
    dropped: int,
    actor: Actor,
    workspace_id: str,
    now: float,
) -> bool:
    """Take a report in, unless its sequence was taken before; returns whether it was new."""
    now_ms = int(now * 1000)
    if not await _note_sequence(session, node_id, reporter, sequence, dropped, now_ms):
        return False
    for item in items:
        if item.type == "trust" and item.sequence is not None:
            await adoptions.node_adopted(session, node_id, item.sequence, now_ms)
            for cut in item.cuts:
                await _take_cut(session, node_id, cut, _Context(actor, workspace_id, now))
        elif item.type == "shell" and item.shell is not None:
            append(session, now, actor, _shell_happening(item, item.shell, node_id, workspace_id))
        elif item.type == "file" and item.file is not None:
            append(session, now, actor, _file_happening(item, item.file, node_id, workspace_id))
    return True


@dataclass(frozen=True, slots=True)
class _Context:
    actor: Actor
    workspace_id: str
    now: float


async def _take_cut(session: AsyncSession, node_id: str, cut: CutReport, context: _Context) -> None:
    """Count a cut under the number of the revocation or lock that it names; what names none is not kept.

    So a node that lies adds at most one row, and one event, for each revocation and lock that there is.
    """
    sequence = await adoptions.sequence_of(session, cut)
    if sequence is None:
        return
    new = await adoptions.add_cuts(session, node_id, sequence, [cut], int(context.now * 1000))
    if new:
        details = {
            "cause": cut.cause, "kind": cut.kind, "id": cut.id, "sequence": sequence,
            "links": cut.links, "streams": cut.streams, "exchanges": cut.exchanges,
        }  # fmt: skip
        happening = Happening("node.cut", resource=node_id, workspace_id=context.workspace_id, details=details)
        append(session, context.now, context.actor, happening)


def _shell_happening(item: ReportItem, shell: Mapping[str, Any], node_id: str, workspace_id: str) -> Happening:
    """Return what a node says of a shell: `subject` is who opened it, by the token that the node was shown."""
    action = _SHELL_ACTIONS.get(shell["event"], f"shell.{_OF_A_LATER_RELEASE}")
    left_out = {"cause", "input_bytes", "output_bytes"} if shell["event"] == "opened" else set()
    details = {name: value for name, value in shell.items() if name not in left_out}
    details |= {"subject": item.subject, "token_id": item.token_id, "time": item.time}
    if shell["event"] in _SHELL_ACTIONS:
        del details["event"]
    return Happening(action, resource=node_id, workspace_id=workspace_id, details=details)


def _file_happening(item: ReportItem, file: Mapping[str, Any], node_id: str, workspace_id: str) -> Happening:
    """Return what a node says of a file: `subject` is who asked, by the token that the node was shown."""
    action = _FILE_ACTIONS.get(file["event"], f"file.{_OF_A_LATER_RELEASE}")
    details = {name: value for name, value in file.items() if value != ""}
    details |= {"subject": item.subject, "token_id": item.token_id, "time": item.time}
    if file["event"] in _FILE_ACTIONS:
        del details["event"]
    return Happening(action, resource=node_id, workspace_id=workspace_id, details=details)


async def _note_sequence(
    session: AsyncSession, node_id: str, reporter: str, sequence: int, dropped: int, now_ms: int
) -> bool:
    """Write down that the report has come; return whether it was new."""
    known = await session.get(NodeReporter, node_id)
    if known is None:
        row = NodeReporter(node_id=node_id, reporter=reporter, sequence=sequence, dropped=dropped, time=now_ms)
        session.add(row)
        return True
    if known.reporter == reporter and sequence <= known.sequence:
        return False
    known.dropped = summed(dropped, known.dropped if known.reporter == reporter else 0)
    known.reporter, known.sequence, known.time = reporter, sequence, now_ms
    return True
