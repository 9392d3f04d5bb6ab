"""The parent's directory: which worker has which node's newest link.

Theory of operation. Workers tell of links in the order in which things happen to each of them; the order of all is
that in which the parent hears of them. A node has one entry, its newest link by the rules of supersession (`judge`).
What the workers are to be told follows from each change: the others of an entry that was opened or closed, or the
worker that told that a link of its own is not the newest.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from relay.links.supersede import Incumbent, Verdict, judge


@dataclass(slots=True)
class Entry:
    """A node's newest link.

    Attributes:
        worker: who has it.
        number: the link, as that worker counts.
        gone: it is about to end, or does not answer.
    """

    worker: int
    number: int
    node_id: str
    workspace_id: str
    workspace: str
    node: str
    spiffe_id: str
    instance: str
    sequence: int
    current: bool = True
    gone: bool = False

    def as_message(self) -> dict[str, Any]:
        """The members of an `opened` message."""
        return {
            "worker": self.worker,
            "number": self.number,
            "node_id": self.node_id,
            "workspace_id": self.workspace_id,
            "workspace": self.workspace,
            "node": self.node,
            "spiffe_id": self.spiffe_id,
            "instance": self.instance,
            "sequence": self.sequence,
        }


class Directory:
    """Entries by node, and by link."""

    def __init__(self) -> None:
        self._by_node: dict[str, Entry] = {}
        self._by_link: dict[tuple[int, int], Entry] = {}

    def __len__(self) -> int:
        return len(self._by_node)

    def __iter__(self) -> Iterator[Entry]:
        return iter(self._by_node.values())

    def of_node(self, node_id: str) -> Entry | None:
        """Return a node's entry."""
        return self._by_node.get(node_id)

    def judge(self, node_id: str, instance: str, sequence: int) -> Verdict:
        """Say what becomes of a new link of a node; ADMIT and SUPERSEDE let it be attached."""
        entry = self._by_node.get(node_id)
        incumbent = Incumbent(entry.instance, entry.sequence, gone=entry.gone) if entry is not None else None
        return judge(incumbent, instance, sequence)

    def opened(self, entry: Entry) -> bool:
        """Take a link that a worker has attached; False if another one is the node's, and this one has to go."""
        held = self._by_node.get(entry.node_id)
        if held is not None:
            verdict = self.judge(entry.node_id, entry.instance, entry.sequence)
            if verdict not in (Verdict.ADMIT, Verdict.SUPERSEDE):
                return False
            del self._by_link[held.worker, held.number]
        self._by_node[entry.node_id] = entry
        self._by_link[entry.worker, entry.number] = entry
        return True

    def retired(self, worker: int, number: int, *, gone: bool) -> Entry | None:
        """Note that a link takes no new calls; return its entry if it is a node's newest."""
        entry = self._by_link.get((worker, number))
        if entry is not None:
            entry.current = False
            entry.gone = entry.gone or gone
        return entry

    def closed(self, worker: int, number: int) -> Entry | None:
        """Forget a link; return its entry if it was a node's newest."""
        entry = self._by_link.pop((worker, number), None)
        if entry is not None:
            del self._by_node[entry.node_id]
        return entry

    def lost(self, worker: int) -> list[Entry]:
        """Forget all links of a worker that is gone; return the entries."""
        lost = [entry for entry in self._by_node.values() if entry.worker == worker]
        for entry in lost:
            self.closed(entry.worker, entry.number)
        return lost
