"""Requests whose commit got no answer from the database: they get 503, and may be sent again, whatever came of it."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest
from sqlalchemy import Connection, Engine, event

from certs.chains import CertificateChain
from certs.identities import Identity, build_csr
from certs.keyfiles import generate_key
from control_plane.initialise import initialise
from tests.support.control_planes import SEALING_KEY, Answer, RunningControlPlane, running_control_plane, settings_for
from tests.support.postgres import Postgres, has_postgres, running_postgres
from tests.support.tcp_forwarder import TcpForwarder, tcp_forwarder

pytestmark = [
    pytest.mark.skipif(not has_postgres(), reason="PostgreSQL is not installed"),
    pytest.mark.parametrize("is_done", [True, False], ids=["done", "not done"]),
]


@pytest.fixture(scope="module")
def server() -> Iterator[Postgres]:
    with running_postgres() as running:
        yield running


@pytest.fixture(scope="module")
def state(server: Postgres, tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("plane")
    asyncio.run(initialise(settings_for(directory, database={"url": server.url})))
    return directory


@pytest.fixture
async def way(server: Postgres) -> AsyncIterator[TcpForwarder]:
    async with tcp_forwarder("127.0.0.1", server.port) as forwarder:
        yield forwarder


@pytest.fixture
async def plane(state: Path, way: TcpForwarder) -> AsyncIterator[RunningControlPlane]:
    url = f"postgresql+asyncpg://trunkline@127.0.0.1:{way.port}/postgres"
    settings = settings_for(state, database={"url": url, "query_timeout_seconds": 2})
    async with running_control_plane(state, settings=settings) as running:
        yield running
        way.resume()


@contextmanager
def lost_commit(way: TcpForwarder, *, is_done: bool) -> Iterator[None]:
    """Lose the next commit: its answer, or itself, after which the server ends the transaction by its own clock."""
    armed = [True]

    def lose(_: Connection) -> None:
        if armed and armed.pop():
            way.stall(answers=is_done)

    event.listen(Engine, "commit", lose)
    try:
        yield
    finally:
        event.remove(Engine, "commit", lose)


async def lose(way: TcpForwarder, call: Callable[[], Awaitable[Answer]], *, is_done: bool) -> None:
    """Make a request whose commit is lost, and have the way back when it was answered."""
    async with asyncio.timeout(25):
        with lost_commit(way, is_done=is_done):
            answer = await call()
    assert (answer.status, answer.error_code) == (503, "TEMPORARILY_UNAVAILABLE"), answer
    assert "may be done or not" in answer.document["message"]
    way.resume()


async def sent_again(call: Callable[[], Awaitable[Answer]]) -> Answer:
    """Send it as a client does: for as long as it is told to, since a slow machine may need more than one attempt."""
    async with asyncio.timeout(25):
        while (answer := await call()).status == 503:
            pass
    return answer


async def names(plane: RunningControlPlane, workspace: str) -> list[str]:
    listed = await plane.ok("GET", f"/w/{workspace}/api/2.0/nodes")
    return [node["node"] for node in listed["nodes"]]


async def test_a_token_for_one_admits_one(plane: RunningControlPlane, way: TcpForwarder, is_done: bool):
    workspace = f"tokens-{is_done}".lower()
    await plane.workspace(workspace)
    token = await plane.join_token(workspace)
    body, key = await plane.bootstrap_body(token, node_name="vm-1")
    ask = partial(plane.call, "POST", "/api/2.0/bootstrap", token=None)
    await lose(way, partial(ask, body), is_done=is_done)
    answer = await sent_again(partial(ask, body))
    assert answer.status == 200
    assert (await sent_again(partial(ask, body))).document["node_id"] == answer.document["node_id"]
    other, _ = await plane.bootstrap_body(token, node_name="vm-2")
    assert (await sent_again(partial(ask, other))).status == 409
    assert await names(plane, workspace) == ["vm-1"]
    identity = Identity(key, CertificateChain.from_pem(answer.document["certificate_chain"]))
    await plane.ok("POST", "/api/2.0/bootstrap/confirm", {}, identity=identity)


async def test_a_command_is_recorded_once(plane: RunningControlPlane, way: TcpForwarder, is_done: bool):
    workspace = f"commands-{is_done}".lower()
    node = await plane.node("vm-1", workspace)
    path = f"/w/{workspace}/api/2.0/commands"
    ask = partial(plane.call, "POST", path, {"command_id": "once", "target": {"node": "vm-1"}, "argv": ["true"]})
    await lose(way, ask, is_done=is_done)
    answer = await sent_again(ask)
    assert answer.status == (200 if is_done else 201)
    assert len(answer.document["commands"]) == 1
    assert len((await plane.ok("GET", path))["commands"]) == 1
    assert len(await plane.audit(action="command.submit", workspace_id=node.workspace_id)) == 1


@pytest.mark.parametrize("again", [True, False], ids=["asked again", "not asked again"])
async def test_a_revocation_that_was_recorded_is_published(
    plane: RunningControlPlane, way: TcpForwarder, is_done: bool, again: bool
):
    name = f"t-{is_done}-{again}"
    trust = plane.control_plane.identities.trust
    ask = partial(plane.call, "POST", "/api/2.0/revocations", {"kind": "token", "id": name})
    await lose(way, ask, is_done=is_done)
    before = trust.sequence
    if again:
        assert (await sent_again(ask)).document["sequence"] == trust.sequence == before + 1
    else:
        await trust.look()  # each second
        assert trust.sequence == before + is_done
    listed = await plane.ok("GET", "/api/2.0/revocations?page_size=1000")
    assert (name in [row["id"] for row in listed["revocations"]]) is (again or is_done)


async def test_a_renewal_leaves_the_node_an_identity(plane: RunningControlPlane, way: TcpForwarder, is_done: bool):
    node = await plane.node("vm-1", f"renewals-{is_done}".lower())
    key = generate_key()
    body = {"csr": build_csr(key), "sealing_key": SEALING_KEY}
    ask = partial(plane.call, "POST", "/api/2.0/nodes/self/renew", body, identity=node.identity)
    await lose(way, ask, is_done=is_done)
    answer = await sent_again(ask)
    assert answer.status == 200, answer
    renewed = Identity(key, CertificateChain.from_pem(answer.document["certificate_chain"]))
    for identity in (renewed, node.identity):
        assert (await plane.call("POST", "/api/2.0/nodes/self/listen-token", {}, identity=identity)).status == 200
