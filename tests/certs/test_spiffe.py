import pytest
from hypothesis import given
from hypothesis import strategies as st

from certs.errors import CertificateError
from certs.spiffe import IdentityRole, SpiffeId, control_plane_id, node_id, relay_id, relays_id, workspace_id

FORMS = {
    "spiffe://trunkline.test/control-plane": control_plane_id("trunkline.test"),
    "spiffe://trunkline.test/relay": relays_id("trunkline.test"),
    "spiffe://trunkline.test/relay/rl-1": relay_id("trunkline.test", "rl-1"),
    "spiffe://trunkline.test/workspace/ws-1": workspace_id("trunkline.test", "ws-1"),
    "spiffe://trunkline.test/workspace/ws-1/node/nd-1": node_id("trunkline.test", "ws-1", "nd-1"),
}


@pytest.mark.parametrize("text", FORMS)
def test_every_form_is_read_and_written(text: str) -> None:
    assert SpiffeId.parse(text) == FORMS[text]
    assert str(FORMS[text]) == text


def test_parts() -> None:
    node = SpiffeId.parse("spiffe://a.b/workspace/ws-1/node/nd-1")
    assert (node.role, node.workspace_id, node.node_id, node.relay_id) == (IdentityRole.NODE, "ws-1", "nd-1", None)


@pytest.mark.parametrize(
    "text",
    [
        "", "spiffe://", "spiffe:///control-plane", "spiffe://td", "spiffe://td/", "spiffe://td/control-plane/",
        "SPIFFE://td/control-plane", "https://td/control-plane", "spiffe://TD/control-plane", "spiffe://td:1/relay",
        "spiffe://u@td/relay", "spiffe://td/relay?x", "spiffe://td/relay#x", "spiffe://td//relay", "spiffe://td/relay/",
        "spiffe://td/relay/..", "spiffe://td/relay/%72l", "spiffe://td/relay/a/b", "spiffe://td/relay/A",
        "spiffe://td/workspace", "spiffe://td/workspace/w/node", "spiffe://td/workspace/w/node/", "spiffe://t..d/relay",
        "spiffe://td/workspace/w/node/n/x", "spiffe://td/workspace//node/n", "spiffe://td/workspace/w/relay/r",
        "spiffe://td/relay\n", "\nspiffe://td/relay", "spiffe://td/relay/é", "spiffe://-td/relay", "spiffe://td./relay",
        "spiffe://td/relay/" + "a" * 64, "spiffe://" + "a" * 600 + "/relay", "spiffe://td/relay/a\x00",
        "spiffe://td/relay/١",
    ],
)  # fmt: skip
def test_nothing_else_is_an_id(text: str) -> None:
    with pytest.raises(CertificateError):
        SpiffeId.parse(text)


@given(st.text(max_size=60))
def test_ids_cannot_be_smuggled_through_parts(text: str) -> None:
    try:
        made = node_id("trunkline.test", text, "nd-1")
    except CertificateError:
        return
    assert SpiffeId.parse(str(made)) == made
    assert SpiffeId.parse(str(made)).workspace_id == text
