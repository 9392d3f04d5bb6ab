"""A rotation driven by the API, with machines that report what the test says they have."""

from __future__ import annotations

from typing import Any

from certs.chains import CertificateChain, root_of
from certs.fingerprints import sha256_hex
from certs.identities import Identity, build_csr
from certs.jose import parse_compact
from certs.keyfiles import generate_key
from control_plane.storage import trust_reports
from tests.support.control_planes import Answer, EnrolledNode, EnrolledRelay, RunningControlPlane


class Rotator:
    """Takes steps at a control plane, and speaks for its machines."""

    def __init__(self, plane: RunningControlPlane, kind: str) -> None:
        self.plane = plane
        self.kind = kind
        self.path = f"{plane.account}/rotations/{kind}"

    async def look(self) -> dict[str, Any]:
        return await self.plane.ok("GET", self.path)

    async def step(self, step: str, **body: Any) -> Answer:
        return await self.plane.call("POST", f"{self.path}/{step}", body)

    async def take(self, step: str, **body: Any) -> dict[str, Any]:
        return await self.plane.ok("POST", f"{self.path}/{step}", body)

    async def active(self) -> str:
        [signer] = [one for one in (await self.look())["signers"] if one["active"]]
        return str(signer["signer_id"])

    async def report(self, machine: EnrolledNode | EnrolledRelay, *, sequence: int | None = None) -> None:
        """Let a machine report what it has now: the newest document, and what it stands on itself."""
        trust = self.plane.control_plane.identities.trust
        roots = self.plane.foundation.signers.seats.roots
        root = root_of(machine.identity.chain, roots)
        token = machine.answer.get("listen_token")
        kind, subject = ("node", machine.node_id) if isinstance(machine, EnrolledNode) else ("relay", machine.relay_id)
        reported = trust_reports.Reported(
            kind,
            subject,
            trust.sequence if sequence is None else sequence,
            None if root is None else sha256_hex(root),
            None if token is None else parse_compact(token).key_id,
        )
        async with self.plane.database.write() as session:
            await trust_reports.record(session, reported, 1)

    async def renew(self, machine: EnrolledNode | EnrolledRelay) -> EnrolledNode | EnrolledRelay:
        """Renew a machine's certificate, and with it a node's token."""
        place = "nodes" if isinstance(machine, EnrolledNode) else "relays"
        key = generate_key()
        body = {"csr": build_csr(key)}
        answer = await self.plane.ok("POST", f"/api/2.0/{place}/self/renew", body, identity=machine.identity)
        identity = Identity(key, CertificateChain.from_pem(answer["certificate_chain"]))
        return type(machine)(machine.answer | answer, identity)
