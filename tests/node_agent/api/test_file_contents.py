"""`/v1/files/content`: bytes and their hashes both ways, resumed, and out of place when anything is wrong."""

import hashlib
import json
import os
import tempfile
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest

from certs.trust import TrustVerdict
from node_agent.policy_file import PolicySource
from tests.node_agent.api.test_files import lines, query, reported, rewrite
from tests.support.agent_exchanges import HOST, Agent, Answer

Until = Callable[[Callable[[], bool]], Awaitable[None]]
CONTENT = os.urandom(700_000)


def digest(content: bytes) -> bytes:
    return hashlib.sha256(content).digest()


async def read(agent: Agent, path: Path | str, **values: str | int) -> Answer:
    target = f"/v1/files/content?{query(path=path, **values)}"
    return await agent.call("GET", target, token=agent.kit.call_token("file:read"))


async def write(agent: Agent, path: Path | str, body: bytes, **values: str | int) -> Answer:
    target = f"/v1/files/content?{query(path=path, **values)}"
    return await agent.call("PUT", target, token=agent.kit.call_token("file:write"), body=body)


async def test_a_file_is_read_with_its_hash_behind_it(agent: Agent, tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(CONTENT)
    answer = await read(agent, tmp_path / "f")
    assert answer.body == CONTENT + digest(CONTENT)
    assert answer.fields["trunkline-size"] == str(len(CONTENT))
    assert answer.fields["trunkline-modified"] == str((tmp_path / "f").stat().st_mtime_ns)
    rest = await read(agent, tmp_path / "f", offset=600_000)
    assert rest.body == CONTENT[600_000:] + digest(CONTENT[600_000:])
    assert [(use["offset"], use["size_bytes"], use["sha256"]) for use in reported(agent)] == [
        (0, 700_000, digest(CONTENT).hex()), (600_000, 100_000, digest(CONTENT[600_000:]).hex()),
    ]  # fmt: skip


async def test_what_cannot_be_read_is_refused_before_a_byte(
    agent: Agent, policy: PolicySource, policy_file: Path, tmp_path: Path
) -> None:
    (tmp_path / "f").write_bytes(b"12345")
    os.mkfifo(tmp_path / "pipe")
    assert (await read(agent, tmp_path / "f", offset=6)).status == 416
    assert (await read(agent, tmp_path / "none")).status == 404
    for odd in (tmp_path, tmp_path / "pipe"):
        refused = await read(agent, odd)
        assert refused.status == 409, refused.body
    rewrite(policy, policy_file, "[files]\nmax_file_bytes = 4\n")
    assert (await read(agent, tmp_path / "f")).status == 413
    assert (await write(agent, tmp_path / "g", b"12345" + digest(b"12345"), size=5)).status == 413
    unsized = await write(agent, tmp_path / "g", b"12345" + digest(b"12345"))
    assert lines(unsized)[-1]["error"]["details"] == {"policy_rule": "files.max_file_bytes"}
    assert not (tmp_path / "g").exists()


async def test_files_without_a_size_are_read_to_their_end(agent: Agent) -> None:
    answer = await read(agent, "/proc/self/status")
    assert answer.body.startswith(b"Name:")
    assert answer.body[-32:] == digest(answer.body[:-32])


async def test_a_file_is_written_and_told(agent: Agent, tmp_path: Path) -> None:
    values: dict[str, str | int] = {"mode": "640", "mtime_ns": 1_000_000_000, "keep": "true", "size": len(CONTENT)}
    answer = await write(agent, tmp_path / "f", CONTENT + digest(CONTENT), **values)
    assert lines(answer) == [{"size_bytes": len(CONTENT), "sha256": digest(CONTENT).hex()}]
    assert (tmp_path / "f").read_bytes() == CONTENT
    assert (tmp_path / "f").stat().st_mode & 0o7777 == 0o640
    assert (tmp_path / "f").stat().st_mtime == 1.0
    use = reported(agent)[0]
    assert (use["event"], use["outcome"], use["path"]) == ("written", "complete", str(tmp_path / "f"))
    assert (use["size_bytes"], use["sha256"]) == (len(CONTENT), digest(CONTENT).hex())


async def test_an_interrupted_one_goes_on(agent: Agent, tmp_path: Path, until: Until) -> None:
    offset = await cut_off(agent, tmp_path / "f", CONTENT[:500_000], until)
    target = f"/v1/files/target?{query(path=tmp_path / 'f')}"
    answer = await agent.call("GET", target, token=agent.kit.call_token("file:write"))
    assert json.loads(answer.body)["received_bytes"] == offset
    assert (await write(agent, tmp_path / "f", b"", offset=offset + 1, prefix_sha256="0" * 64)).status == 416
    prefix = digest(CONTENT[:offset]).hex()
    answer = await write(agent, tmp_path / "f", CONTENT[offset:] + digest(CONTENT), offset=offset, prefix_sha256=prefix)
    assert lines(answer)[-1]["sha256"] == digest(CONTENT).hex()
    assert (tmp_path / "f").read_bytes() == CONTENT


async def test_one_with_another_beginning_does_not_go_on(agent: Agent, tmp_path: Path, until: Until) -> None:
    offset = await cut_off(agent, tmp_path / "f", CONTENT[:500_000], until)
    other = digest(b"other").hex()
    answer = await write(agent, tmp_path / "f", CONTENT[offset:] + digest(CONTENT), offset=offset, prefix_sha256=other)
    error = lines(answer)[-1]["error"]
    assert (error["status"], error["error_code"]) == (409, "CHECKSUM_MISMATCH"), error
    assert not (tmp_path / "f").exists()
    assert not partial_bytes(tmp_path / "f")


async def cut_off(agent: Agent, path: Path, content: bytes, until: Until) -> int:
    """Begin an upload, and go once something of it has arrived; return how much stays."""
    reader, writer = agent.open()
    writer.write(head_of(agent, "PUT", path, "file:write", "Content-Length: 1000000") + content)
    await reader.readuntil(b"\r\n\r\n")
    await until(lambda: partial_bytes(path) > 0)
    writer.transport.abort()
    await until(agent.reports.waiting.is_set)
    assert [use["outcome"] for use in reported(agent)] == ["interrupted"]
    return partial_bytes(path)


def partial_bytes(path: Path) -> int:
    partial = path.with_name(f".{path.name}.trunkline-part")
    return partial.stat().st_size if partial.exists() else 0


def head_of(agent: Agent, method: str, path: Path, scope: str, *fields: str) -> bytes:
    line = f"{method} /v1/files/content?{query(path=path)} HTTP/1.1"
    token = f"Proxy-Authorization: Bearer {agent.kit.call_token(scope)}"
    return "\r\n".join([line, f"Host: {HOST}", token, *fields, "", ""]).encode()


async def test_a_wrong_hash_or_none_leaves_the_target_as_it_was(agent: Agent, tmp_path: Path) -> None:
    (tmp_path / "f").write_text("before")
    answer = await write(agent, tmp_path / "f", CONTENT + digest(b"other"))
    assert lines(answer)[-1]["error"]["error_code"] == "CHECKSUM_MISMATCH"
    answer = await write(agent, tmp_path / "f", b"short")
    assert lines(answer)[-1]["error"]["status"] == 400
    assert (tmp_path / "f").read_text() == "before"
    assert {use["outcome"] for use in reported(agent)} == {"failed"}


async def test_what_is_in_the_way_is_replaced_or_refused_and_never_written_through(
    agent: Agent, tmp_path: Path
) -> None:
    victim = tmp_path / "victim"
    victim.write_text("untouched")
    (tmp_path / "link").symlink_to(victim)
    (tmp_path / "top").mkdir()
    (tmp_path / "top" / "out").symlink_to(tmp_path)
    assert lines(await write(agent, tmp_path / "link", b"x" + digest(b"x")))[-1]["size_bytes"] == 1
    assert not (tmp_path / "link").is_symlink()
    for below in ({"below": "out/victim"}, {}):
        refused = await write(agent, tmp_path / "top", b"x" + digest(b"x"), **below)
        assert refused.status == 409, refused.body
    assert victim.read_text() == "untouched"


@pytest.mark.parametrize(
    "values",
    [
        {"offset": 5}, {"prefix_sha256": "0" * 64}, {"offset": "-1"}, {"offset": "01"}, {"mode": "4755"}, {"mode": "9"},
        {"keep": "yes"}, {"keep": "true"}, {"size": 2**63}, {"offset": 5, "prefix_sha256": "A" * 64},
    ],
)  # fmt: skip
async def test_queries_that_say_nothing_good_are_refused(agent: Agent, tmp_path: Path, values: dict[str, str]) -> None:
    assert (await write(agent, tmp_path / "f", b"", **values)).status == 400
    assert not (tmp_path / "f").exists()
    assert not partial_bytes(tmp_path / "f")


@pytest.fixture
def passable() -> Iterator[Path]:
    """A directory that other users can pass through; one of pytest's they cannot."""
    with tempfile.TemporaryDirectory(dir="/tmp") as name:
        place = Path(name)
        place.chmod(0o755)
        (place / "closed").write_text("secret")
        (place / "closed").chmod(0o600)
        (place / "drop").mkdir()
        (place / "drop").chmod(0o777)
        yield place


@pytest.mark.skipif(os.geteuid() != 0, reason="takes two users")
async def test_it_is_done_with_the_rights_of_the_user_and_nothing_else(
    agent: Agent, policy: PolicySource, policy_file: Path, passable: Path
) -> None:
    rewrite(policy, policy_file, "[files]\nusers = ['nobody', 'root']\n")
    assert (await read(agent, passable / "closed")).status == 403
    assert (await read(agent, passable / "closed", user="root")).status == 200
    assert (await write(agent, passable / "x", b"x" + digest(b"x"))).status == 403
    assert lines(await write(agent, passable / "drop/x", b"x" + digest(b"x")))[-1]["size_bytes"] == 1
    assert (passable / "drop/x").stat().st_uid != 0
    assert [use["user"] for use in reported(agent)] == ["nobody", "root", "nobody", "nobody"]


async def test_more_at_once_than_the_owner_allows_wait(
    agent: Agent, policy: PolicySource, policy_file: Path, tmp_path: Path
) -> None:
    rewrite(policy, policy_file, "[files]\nmax_concurrent = 1\n")
    (tmp_path / "f").write_bytes(CONTENT * 20)
    reader, writer = agent.open()
    writer.write(head_of(agent, "GET", tmp_path / "f", "file:read"))
    await reader.readuntil(b"\r\n\r\n")
    refused = await read(agent, tmp_path / "f")
    assert refused.status == 429
    assert json.loads(refused.body)["details"] == {"policy_rule": "files.max_concurrent"}
    writer.transport.abort()


async def test_a_revoked_token_ends_what_is_being_copied(agent: Agent, tmp_path: Path, until: Until) -> None:
    (tmp_path / "f").write_bytes(CONTENT * 20)
    reader, writer = agent.open()
    writer.write(head_of(agent, "GET", tmp_path / "f", "file:read"))
    await reader.readuntil(b"\r\n\r\n")
    assert agent.watch.cut(lambda claims: TrustVerdict(False, "token", claims.token_id))
    await until(agent.reports.waiting.is_set)
    assert [use["outcome"] for use in reported(agent)] == ["interrupted"]
    with pytest.raises(ConnectionResetError):
        await reader.read()
    writer.close()
