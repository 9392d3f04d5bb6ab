"""Secrets sealed while a renewal is under way are opened, whichever key they were sealed to."""

from certs.encoding import encode_base64url
from certs.sealing import read_sealing_key, seal
from node_agent.identity.node_identity import NodeIdentity
from node_agent.identity.sealed_secrets import NodeSecrets, new_sealing_key, public_sealing_key
from tests.support.identities import NODE, NODE_ID, WORKSPACE, WORKSPACE_ID
from trunkline.runtime.secret import Secret


def sealed(node: NodeIdentity, key: Secret, name: str) -> dict[str, str]:
    public = read_sealing_key(public_sealing_key(key))
    return {
        "name": name,
        "sealed": encode_base64url(seal(b"value", public, context=f"{node.spiffe_id} {name}".encode())),
    }


def test_the_present_key_and_the_former_ones_open(kit, log, logged):
    present, former, older, foreign = (new_sealing_key() for _ in range(4))
    node = NodeIdentity(
        identity=kit.issue_node(),
        node_id=NODE_ID,
        node=NODE,
        workspace_id=WORKSPACE_ID,
        workspace=WORKSPACE,
        name_suffix="trunk.internal",
        listen_token=Secret("x"),
        sealing_key=present,
        former_sealing_keys=(former, older),
    )
    secrets = NodeSecrets(log)
    secrets.take([sealed(node, key, name) for key, name in ((present, "a"), (former, "b"), (older, "c"))], node)
    assert [opened.reveal() for name in "abc" if (opened := secrets.get(name))] == ["value"] * 3
    secrets.take([sealed(node, foreign, "d")], node)
    assert secrets.get("d") is None
    secrets.take([sealed(node, former, "e")], node.settled())
    assert secrets.get("e") is None
    assert [entry["secret_name"] for entry in logged.entries] == ["d", "e"]
