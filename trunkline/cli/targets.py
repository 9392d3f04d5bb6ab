"""What is revoked or locked, as people name it: nodes and workspaces by name or id, tokens and certificates by id."""

from __future__ import annotations

import re
from typing import cast

from trunkline.cli.session import Session
from trunkline.client.endings import EndingKind

KINDS = ("token", "node", "certificate", "workspace")
_ID = re.compile(r"(?:nd|ws)-[a-z2-7]{20}")


async def id_of(session: Session, kind: str, name: str) -> tuple[EndingKind, str]:
    """The kind and the id; an id is taken as it is, since what it names may be deleted already.

    Raises:
        TrunklineError: there is no node or workspace of this name.
    """
    if kind == "node" and not _ID.fullmatch(name):
        name = (await session.workspace.get_node(name)).node_id
    elif kind == "workspace" and not _ID.fullmatch(name):
        name = (await session.control_plane.account.get_workspace(name)).workspace_id
    return cast(EndingKind, kind), name
