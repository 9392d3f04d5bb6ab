import pytest

from certs.errors import CertificateError
from node_agent.identity.credentials import certificate_span, token_span
from node_agent.identity.node_identity import IdentityStore
from trunkline.runtime.secret import Secret


async def test_what_is_stored_is_what_is_loaded(make_bootstrap, state, kit):
    node = await make_bootstrap().run()
    store = IdentityStore(state)
    loaded = store.load()
    assert loaded is not None
    assert (loaded.node_id, loaded.name_suffix, loaded.relays) == (node.node_id, node.name_suffix, node.relays)
    assert loaded.identity.serial == node.identity.serial
    assert loaded.is_valid(kit.now)
    assert not loaded.is_valid(kit.now + 2 * 86400)
    assert not any(secret in repr(loaded) for secret in (node.listen_token.reveal(), node.sealing_key.reveal()))


async def test_files_that_cannot_be_trusted_are_refused(make_bootstrap, state):
    await make_bootstrap().run()
    path, store = state / "identity.json", IdentityStore(state)
    path.chmod(0o644)
    with pytest.raises(CertificateError):
        store.load()
    path.chmod(0o600)
    content = path.read_bytes()
    for damaged in (b"", b"{", b"[]", b"{}", content[: len(content) // 2], content.replace(b"nd-one", b"")):
        path.write_bytes(damaged)
        with pytest.raises(CertificateError):
            store.load()


async def test_the_unconfirmed_identity_leaves_the_one_in_force(make_bootstrap, state):
    node = await make_bootstrap().run()
    store = IdentityStore(state)
    store.save_unconfirmed(node)
    assert store.load_unconfirmed() is not None
    store.drop_unconfirmed()
    assert store.load_unconfirmed() is None
    assert store.load() is not None


async def test_renewal_is_planned_in_the_middle_of_a_life(make_bootstrap, rng, kit):
    node = await make_bootstrap().run()
    for span in (certificate_span(node), token_span(node.listen_token, kit.now)):
        moments = [span.renew_at(rng) for _ in range(200)]
        life = span.end - span.start
        assert span.start + 0.5 * life <= min(moments) < max(moments) <= span.start + 0.7 * life
        assert max(moments) - min(moments) > 0.15 * life


@pytest.mark.parametrize("text", ["", "a.b", "a.e30.c", "a.!!.c", "a.eyJpYXQiOiJ4IiwiZXhwIjoxfQ.c"])
def test_a_token_without_times_is_renewed_soon(text):
    assert token_span(Secret(text), 100.0).end == 3700.0
