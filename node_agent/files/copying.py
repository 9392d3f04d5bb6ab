"""One thing that is being done with a file, by a worker that is lent for it, and what will be told of it."""

from dataclasses import dataclass, replace
from typing import Any

from node_agent.files.uses import FileUse
from node_agent.files.worker.frames import Document
from node_agent.files.worker.places import Place
from node_agent.files.worker_process import WorkerProcess
from node_agent.rules.files import FileRules


@dataclass(slots=True)
class Copying:
    """`place` is where, `confined` whether the owner allows certain directories only, `use` what is told in the end."""

    place: Place
    confined: bool
    rules: FileRules
    worker: WorkerProcess
    use: FileUse

    def request(self, do: str, **more: Any) -> Document:
        """Return a request to the worker about the place."""
        anchor, parts, follow = self.place
        return {"do": do, "anchor": anchor, "parts": list(parts), "follow": follow, **more}

    def note(self, **known: Any) -> None:
        """Note what is to be told: fields of `FileUse`."""
        self.use = replace(self.use, **known)
