"""What is held, and waiting for what is not."""

import asyncio

import pytest

from node_agent.secrets.held import HeldSecret, HeldSecrets, SecretsMissing


@pytest.fixture
def held() -> HeldSecrets:
    held = HeldSecrets()
    held.replace(7, {"db/password": HeldSecret(3, b"hunter2"), "web/key": HeldSecret(1, b"x")})
    return held


def never() -> "asyncio.Future[None]":
    return asyncio.get_running_loop().create_future()


async def test_what_is_here_is_given_at_once(held):
    found = await held.obtain({"db/password"}, {"db/password": 2}, never(), timeout_seconds=0)
    assert found["db/password"].value == b"hunter2"
    assert not held.asked.is_set()
    assert "hunter2" not in repr(found)


@pytest.mark.parametrize(("name", "versions"), [("db/other", {}), ("db/password", {"db/password": 4})])
async def test_what_is_missing_or_too_old_is_asked_for_and_named(held, name, versions):
    with pytest.raises(SecretsMissing, match=name):
        await held.obtain({name}, versions, never(), timeout_seconds=0.01)
    assert held.asked.is_set()


async def test_what_comes_meanwhile_is_given(held):
    waiting = asyncio.ensure_future(held.obtain({"db/password"}, {"db/password": 4}, never(), timeout_seconds=10))
    await held.asked.wait()
    held.replace(8, {})
    await asyncio.sleep(0)
    held.replace(9, {"db/password": HeldSecret(4, b"new")})
    assert (await waiting)["db/password"].value == b"new"


async def test_who_gives_up_does_not_wait(held):
    given_up = never()
    waiting = asyncio.ensure_future(held.obtain({"db/none"}, {}, given_up, timeout_seconds=3600))
    await held.asked.wait()
    given_up.set_result(None)
    with pytest.raises(SecretsMissing):
        await waiting


async def test_what_the_owner_forbids_is_dropped(held):
    held.drop_unless(lambda scope: scope == "web")
    assert (held.versions(), held.sequence) == ({"web/key": 1}, None)
