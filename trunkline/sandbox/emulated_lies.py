"""Lies that the emulated metadata service can be told to tell of a machine, so that defences can be tried.

One set of lies for each machine, replaced as a whole; without any, it tells the truth.
"""

from __future__ import annotations

from collections.abc import Collection

from pydantic import BaseModel, ConfigDict


class Lies(BaseModel):
    """What is not true of a machine's evidence; None and False are the truth.

    Attributes:
        document_of: signed documents are those of this other machine.
        token_of: tokens, and the role's credentials, are those of this other machine.
        foreign_signer: documents are signed by a stranger, with the genuine certificate beside.
        nonce: documents and audiences hold this nonce, whatever was asked for.
        audience: tokens are for this audience, whatever was asked for.
        resource_id: Azure's tokens name this resource.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    document_of: str | None = None
    token_of: str | None = None
    foreign_signer: bool = False
    nonce: str | None = None
    audience: str | None = None
    resource_id: str | None = None


TRUTH = Lies()


class LieBook:
    """The lies by machine."""

    def __init__(self, machines: Collection[str]) -> None:
        self._machines = frozenset(machines)
        self._lies: dict[str, Lies] = {}

    def of(self, machine: str) -> Lies:
        """What is told of a machine."""
        return self._lies.get(machine, TRUTH)

    def tell(self, machine: str, lies: Lies) -> None:
        """Tell these of the machine from now on.

        Raises:
            ValueError: there is no such machine, or a lie names none.
        """
        for name in (machine, lies.document_of, lies.token_of):
            if name is not None and name not in self._machines:
                raise ValueError(f"no such machine in this sandbox: {name[:64]}")
        self._lies[machine] = lies
