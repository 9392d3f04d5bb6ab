"""Credentials for a run: an authority of its own, a relay's state directory made ready, and as many nodes as needed."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from certs.identities import Identity
from certs.tls import TlsContext
from certs.trust import TrustDocument, sign_trust_document
from relay.identity.establishing import STATE_FORMAT, TRUST_FILE
from relay.identity.own_identity import IDENTITY_FILE
from tests.support.identities import IdentityKit
from trunkline.runtime.files import write_atomic

WORKSPACE = "bench"
SUFFIX = "trunk.internal"


@dataclass(frozen=True, slots=True)
class NodeCredentials:
    """What a node has to attach, and what a sender has to call it."""

    name: str
    identity: str
    listen_token: str
    call_token: str
    workspace: str = WORKSPACE

    @property
    def gateway(self) -> str:
        """The node's path at the gateway door."""
        return f"/v1/workspaces/{self.workspace}/nodes/{self.name}"

    @property
    def host(self) -> str:
        """The node's host name."""
        return f"{self.name}.{self.workspace}.{SUFFIX}"


class Credentials:
    """Issues everything that a run needs; nothing of it is worth anything elsewhere."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir()
        self._directory = directory
        self._kit = IdentityKit(directory)
        self.roots = self._kit.ca_file

    def server_identity(self) -> Path:
        """A serving certificate and key for `localhost`, in one file, for nginx and its backend."""
        path = self._directory / "server.pem"
        self._kit.control_plane.write(path)
        return path

    def prepare_relay(self, state: Path) -> None:
        """Fill the state directory of a relay that has enrolled already."""
        state.mkdir(mode=0o700)
        kit = self._kit
        kit.issue_relay("rl-bench").write(state / IDENTITY_FILE)
        write_atomic(state / "format", f"{STATE_FORMAT}\n".encode())
        document = TrustDocument(
            trust_domain=kit.trust_domain,
            sequence=1,
            issued_at=int(kit.now),
            roots=kit.roots,
            token_keys=(kit.token_key,),
            name_suffix=SUFFIX,
        )
        write_atomic(state / TRUST_FILE, sign_trust_document(document, kit.control_plane).encode())

    def client_context(self) -> TlsContext:
        """TLS for a sender without a certificate."""
        return self._kit.client_tls()

    def nodes(self, count: int, workspace: str = WORKSPACE) -> list[NodeCredentials]:
        """Identities and tokens for nodes `vm-0`, `vm-1`, … of a workspace."""
        return [self._node(workspace, f"vm-{number}") for number in range(count)]

    def write_nodes(self, nodes: list[NodeCredentials], name: str) -> Path:
        """Write what the listener program reads."""
        path = self._directory / name
        document = {"roots": str(self.roots), "nodes": [asdict(node) for node in nodes]}
        write_atomic(path, json.dumps(document).encode())
        return path

    def _node(self, workspace: str, name: str) -> NodeCredentials:
        kit = self._kit
        identity: Identity = kit.issue_node(f"ws-{workspace}", f"nd-{workspace}-{name}")
        return NodeCredentials(
            name=name,
            identity=identity.to_pem().decode(),
            listen_token=kit.listen_token(identity, workspace=workspace, node=name),
            call_token=kit.call_token(target=identity.spiffe_id, workspace=workspace, node=name),
            workspace=workspace,
        )


def load_nodes(path: Path) -> tuple[Path, list[NodeCredentials]]:
    """The roots' file and the nodes of `Credentials.write_nodes`."""
    document = json.loads(path.read_bytes())
    return Path(document["roots"]), [NodeCredentials(**node) for node in document["nodes"]]
