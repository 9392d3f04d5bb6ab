"""Where a request leads: a directory that is opened as it is named, and names beneath it that no link leads out of."""

import contextlib
import os
from collections.abc import Iterator
from typing import NamedTuple

from node_agent.files.worker.frames import Document
from trunkline.files import beneath


class Place(NamedTuple):
    """A name in a directory: `anchor`, absolute, and `parts` beneath it; without parts it is the anchor itself.

    `follow` says that the last part may be a link, as with a path that somebody wrote.
    """

    anchor: str
    parts: tuple[str, ...]
    follow: bool = False

    @property
    def name(self) -> str:
        """The last part; `.` is the anchor."""
        return self.parts[-1] if self.parts else "."

    @contextlib.contextmanager
    def directory(self) -> Iterator[int]:
        """Open the directory that the name is in; raises OSError if it cannot be."""
        with beneath.directory(self.anchor, self.parts[:-1]) as descriptor:
            yield descriptor

    def look(self) -> os.stat_result | None:
        """Return what is known of it, or None where there is nothing; raises OSError if that may not be known."""
        with self.directory() as descriptor:
            return beneath.look(self.name, descriptor, follow=self.follow)

    def open_regular(self) -> int:
        """Open it for reading; raises as `beneath.open_regular`."""
        with self.directory() as descriptor:
            return beneath.open_regular(self.name, descriptor, follow=self.follow)


def place_of(request: Document) -> Place:
    """Return the place that a request names."""
    return Place(request["anchor"], tuple(request["parts"]), request["follow"])
