import json
from dataclasses import replace

import pytest

from certs.errors import CertificateError
from certs.lifespan import renewal_part
from node_agent.identity.credentials import renew_pair_at, token_lifespan
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
    for damaged in (
        b"",
        b"{",
        b"[]",
        b"{}",
        content[: len(content) // 2],
        content.replace(b"nd-one", b""),
        content.replace(b'"relays"', b'"r"'),
        b"[" * 100_000,
    ):
        path.write_bytes(damaged)
        with pytest.raises(CertificateError):
            store.load()


async def test_the_successor_leaves_the_one_in_force_until_it_is_committed(make_bootstrap, state, kit):
    node = await make_bootstrap().run()
    store = IdentityStore(state)
    store.save_successor(replace(node, node="vm-2"))
    assert store.load_successor() is not None
    store.drop_successor()
    assert store.load_successor() is None
    store.save_successor(replace(node, node="vm-2"))
    assert store.load().node == "vm-1"
    store.commit()
    assert store.load().node == "vm-2"
    assert store.load_successor() is None
    store.commit()
    assert store.load().node == "vm-2"


async def test_a_file_of_the_first_form_is_a_confirmed_identity(make_bootstrap, state):
    await make_bootstrap().run()
    path = state / "identity.json"
    document = json.loads(path.read_bytes())
    del document["confirmed"], document["former_sealing_keys"]
    path.write_text(json.dumps(document))
    node = IdentityStore(state).load()
    assert (node.confirmed, node.sealing_keys) == (True, (node.sealing_key,))


async def test_a_pair_is_renewed_in_the_middle_of_the_shorter_of_its_lives(make_bootstrap, kit, control_plane):
    control_plane.node_lifetime_seconds = 10 * 86400
    node = await make_bootstrap().run()
    span = token_lifespan(node.listen_token, kit.now)
    assert (span.end - span.start, node.lifespan.end - node.lifespan.start) == (86400, 10 * 86400)
    moment = renew_pair_at(node, kit.now)
    assert node.first
    assert moment == span.at(renewal_part(node.identity.serial, first=True))
    assert span.at(0.4) <= moment <= span.at(0.7)
    later = renew_pair_at(replace(node, first=False), kit.now)
    assert later == span.at(renewal_part(node.identity.serial))
    assert span.at(0.5) <= later <= span.at(0.7)


async def test_a_moment_that_was_promised_is_kept_to_and_kept_on_the_disk(make_bootstrap, kit, control_plane, state):
    moment = int(kit.now) + 0.45 * 86400 + 0.5
    control_plane.renew_time = int(moment * 1000)
    node = await make_bootstrap().run()
    assert renew_pair_at(node, kit.now) == moment
    stored = IdentityStore(state).load()
    assert stored is not None
    assert renew_pair_at(stored, kit.now) == moment
    # It is early even for the first pair, and too early for any other.
    assert renew_pair_at(replace(stored, first=False), kit.now) > int(kit.now) + 0.5 * 86400 - 1


@pytest.mark.parametrize(
    "promised",
    [None, 0, -1, 10**400, 1e300, float("nan"), float("inf"), True, "1800000000000", [1], {"at": 1}, 0.39, 0.71],
)
async def test_a_moment_that_is_none_or_outside_of_the_window_is_not_taken(
    make_bootstrap, kit, control_plane, state, promised
):
    outside = isinstance(promised, float) and 0 < promised < 1
    control_plane.renew_time = int((kit.now + promised * 86400) * 1000) if outside else promised
    node = await make_bootstrap().run()
    span = token_lifespan(node.listen_token, kit.now)
    assert renew_pair_at(node, kit.now) == span.at(renewal_part(node.identity.serial, first=True))
    assert IdentityStore(state).load() is not None


async def test_an_identity_of_before_there_were_promises_is_read(make_bootstrap, state):
    await make_bootstrap().run()
    path = state / "identity.json"
    document = json.loads(path.read_bytes())
    del document["renew_at"]
    path.write_text(json.dumps(document))
    assert IdentityStore(state).load().renew_at is None


@pytest.mark.parametrize("text", ["", "a.b", "a.e30.c", "a.!!.c", "a.eyJpYXQiOiJ4IiwiZXhwIjoxfQ.c"])
def test_a_token_without_times_is_renewed_soon(text):
    assert token_lifespan(Secret(text), 100.0).end == 3700.0
