"""Trust documents on their way to a disk that does not take them at once."""

import asyncio

from certs.trust import TrustStore
from node_agent.identity import trust_keeping
from node_agent.identity.trust_in_force import TRUST_FILE
from node_agent.identity.trust_keeping import TrustKeeping


async def test_a_document_that_the_disk_did_not_take_is_kept_as_soon_as_it_does(
    kit, tmp_path, log, logged, until, monkeypatch
):
    monkeypatch.setattr(trust_keeping, "RETRY_SECONDS", 0.001)
    state = tmp_path / "state"
    state.mkdir()
    store = TrustStore(state / TRUST_FILE)
    keeping = TrustKeeping(store, log)
    running = asyncio.create_task(keeping.run())
    store.replace(kit.trust_document(1), kit.now)
    assert keeping.remark() is None
    state.rename(tmp_path / "gone")
    store.replace(kit.trust_document(2), kit.now)
    assert store.current.sequence == 2
    assert keeping.remark() == "the trust document is not on the disk yet, which is slow"
    await until(lambda: [entry["event"] for entry in logged.entries] == ["trust.not_stored"])
    assert keeping.remark().startswith("the disk does not take the trust document, which a restart would lose: cannot")
    (tmp_path / "gone").rename(state)
    await until(lambda: store.kept)
    assert keeping.remark() is None
    assert (state / TRUST_FILE).read_text() == store.text
    await until(lambda: [entry["event"] for entry in logged.entries] == ["trust.not_stored", "trust.stored"])
    running.cancel()
