"""`/v1/files` as callers meet it: kinds, listings, hashes, targets, directories and links; and what is refused."""

import hashlib
import json
import os
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from node_agent.policy_file import PolicySource
from tests.support.agent_exchanges import Agent, Answer


def query(**values: str | int | Path) -> str:
    return "&".join(f"{key}={quote(os.fsencode(str(value)), safe='/')}" for key, value in values.items())


async def ask(agent: Agent, method: str, what: str, scope: str = "", **values: str | int | Path) -> Answer:
    scope = scope or ("file:read" if what in ("entry", "tree", "digest") else "file:write")
    return await agent.call(method, f"/v1/files/{what}?{query(**values)}", token=agent.kit.call_token(scope))


def lines(answer: Answer) -> list[dict[str, Any]]:
    return [document for line in answer.body.splitlines() if (document := json.loads(line))]


def rewrite(policy: PolicySource, path: Path, text: str) -> None:
    run_as = "[commands]\nrun_as = 'root'\n" if os.geteuid() == 0 else ""
    path.write_text(run_as + text)
    assert policy.reload()


def reported(agent: Agent) -> list[dict[str, Any]]:
    batch = agent.reports.next_batch()
    assert batch is not None
    agent.reports.taken(batch)
    return [item | item["file"] for item in batch.items if item["type"] == "file"]


async def test_what_is_there_is_told_and_a_named_link_is_followed(agent: Agent, tmp_path: Path) -> None:
    (tmp_path / "f").write_text("12345")
    (tmp_path / "f").chmod(0o640)
    (tmp_path / "link").symlink_to("f")
    answer = await ask(agent, "GET", "entry", path=tmp_path / "link")
    found = json.loads(answer.body)
    assert (found["kind"], found["size_bytes"], found["mode"]) == ("file", 5, "640")
    assert json.loads((await ask(agent, "GET", "entry", path="/")).body)["kind"] == "directory"
    assert (await ask(agent, "GET", "entry", path=tmp_path / "none")).status == 404
    below = await ask(agent, "GET", "entry", path=tmp_path, below="link")
    assert json.loads(below.body)["kind"] == "link"


async def test_a_listing_names_everything_to_the_byte_and_is_audited(agent: Agent, tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    (tree / "sub").mkdir(parents=True)
    (tree / os.fsdecode(b"sub/\xff%&+ \n")).write_text("x")
    (tree / "link").symlink_to("/etc")
    answer = await ask(agent, "GET", "tree", path=tree)
    *listed, last = lines(answer)
    entries = [entry for line in listed for entry in line["entries"]]
    assert [(entry["path"], entry["kind"]) for entry in entries] == [
        ("link", "link"), ("sub", "directory"), ("sub/\udcff%&+ \n", "file"),
    ]  # fmt: skip
    assert entries[0]["target"] == "/etc"
    assert last == {"complete": True}
    again = await ask(agent, "GET", "digest", path=tree, below=entries[2]["path"], length=1)
    assert lines(again) == [{"sha256": hashlib.sha256(b"x").hexdigest()}]
    told = reported(agent)
    assert [(use["event"], use["size_bytes"]) for use in told] == [("listed", 3), ("hashed", 1)]
    assert told[1]["sha256"] == hashlib.sha256(b"x").hexdigest(), "by hashes of its beginnings a file can be read"


async def test_a_listing_is_bounded_by_the_owner(
    agent: Agent, policy: PolicySource, policy_file: Path, tmp_path: Path
) -> None:
    rewrite(policy, policy_file, "[files]\nmax_entries = 2\n")
    for number in range(3):
        (tmp_path / "tree" / str(number)).mkdir(parents=True)
    answer = await ask(agent, "GET", "tree", path=tmp_path / "tree")
    assert answer.status == 413
    assert json.loads(answer.body)["details"] == {"policy_rule": "files.max_entries"}


async def test_a_digest_of_more_than_there_is_says_so(agent: Agent, tmp_path: Path) -> None:
    (tmp_path / "f").write_text("12345")
    answer = await ask(agent, "GET", "digest", path=tmp_path / "f", length=6)
    assert lines(answer)[-1]["error"]["status"] == 416


async def test_a_target_says_what_is_there_and_goes_into_directories(agent: Agent, tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "alias").symlink_to("d")
    (tmp_path / "d" / ".f.trunkline-part").write_text("123")
    (tmp_path / "d" / ".f.trunkline-part").chmod(0o600)
    for name in ("d", "alias"):
        answer = await ask(agent, "GET", "target", path=tmp_path / name, name="f")
        assert json.loads(answer.body) == {"kind": None, "into": True, "received_bytes": 3}
    answer = await ask(agent, "GET", "target", path=tmp_path / "d/f", name="f")
    assert json.loads(answer.body) == {"kind": None, "into": False, "received_bytes": 3}
    assert (await ask(agent, "GET", "target", path=tmp_path / "d", name="../f")).status == 400
    assert (await ask(agent, "GET", "target", path=tmp_path / "none/f", name="f")).status == 404


async def test_directories_and_links_are_made_beneath_and_never_through_a_link(agent: Agent, tmp_path: Path) -> None:
    (tmp_path / "top").mkdir()
    (tmp_path / "top" / "out").symlink_to(tmp_path)
    assert (await ask(agent, "PUT", "directory", path=tmp_path / "top", below="d")).status == 200
    assert (await ask(agent, "PUT", "directory", path=tmp_path / "top", below="d")).status == 200
    at = 1_000_000_000
    kept = await ask(agent, "PUT", "directory", path=tmp_path / "top", below="d", mode="750", mtime_ns=at)
    assert kept.status == 200
    assert (tmp_path / "top/d").stat().st_mode & 0o7777 == 0o750
    for below in ("out/d", "out"):
        answer = await ask(agent, "PUT", "directory", path=tmp_path / "top", below=below)
        assert answer.status == 409
    assert not (tmp_path / "d").exists()
    assert (await ask(agent, "PUT", "link", path=tmp_path / "top", below="d/l", target="../x")).status == 200
    assert (tmp_path / "top/d/l").readlink() == Path("../x")
    assert (await ask(agent, "PUT", "link", path=tmp_path / "top", below="d/m", target="../../x")).status == 400
    assert (await ask(agent, "PUT", "link", path=tmp_path / "top", below="out/m", target="x")).status == 409


@pytest.mark.parametrize(
    "values",
    [
        {}, {"path": "/x", "below": "../y"}, {"path": "/x", "below": "/y"}, {"path": "/x", "below": "a/../../y"},
        {"path": "/x\0"}, {"path": "/x", "user": "Root"}, {"path": "/x", "user": "a b"}, {"path": "/x", "other": "y"},
    ],
)  # fmt: skip
async def test_queries_that_say_nothing_good_are_refused(agent: Agent, values: dict[str, str]) -> None:
    answer = await ask(agent, "GET", "entry", **values)
    assert answer.status == 400
    assert json.loads(answer.body)["error_code"] == "INVALID_PARAMETER_VALUE"


async def test_each_way_has_a_scope_of_its_own(agent: Agent, tmp_path: Path) -> None:
    for method, what, wrong in (("GET", "entry", "file:write"), ("PUT", "directory", "file:read"),
                                ("GET", "target", "file:read"), ("GET", "tree", "shell:open")):  # fmt: skip
        answer = await ask(agent, method, what, wrong, path=tmp_path / "x")
        assert answer.status == 403
        assert json.loads(answer.body)["error_code"] == "PERMISSION_DENIED"


async def test_a_refusal_names_the_rule_and_is_reported_with_who_asked_for_what(
    agent: Agent, policy: PolicySource, policy_file: Path, tmp_path: Path
) -> None:
    rewrite(policy, policy_file, f"[files]\nwrite = false\nread_directories = ['{tmp_path}/open']\n")
    (tmp_path / "open").mkdir()
    (tmp_path / "open" / "out").symlink_to(tmp_path)
    refused = {
        "files.write": await ask(agent, "PUT", "directory", path=tmp_path / "d"),
        "files.read_directories": await ask(agent, "GET", "entry", path=tmp_path / "\x1b[2J"),
        "commands.allowed_users": await ask(agent, "GET", "entry", path=tmp_path, user="games"),
    }
    for rule, answer in refused.items():
        assert answer.status == 403
        document = json.loads(answer.body)
        assert document["error_code"] == "POLICY_DENIED"
        assert document["details"] == {"policy_rule": rule}
    told = reported(agent)
    assert [use["reason"] for use in told] == list(refused)
    assert {use["event"] for use in told} == {"refused"}
    assert told[1]["path"] == f"{tmp_path}/\\x1b[2J"
    assert told[0]["subject"]
    # Within the directory there is no way out, and no link is followed at all.
    assert (await ask(agent, "GET", "entry", path=tmp_path / "open/out/f")).status == 409
    assert (await ask(agent, "GET", "entry", path=tmp_path / "open")).status == 200


async def test_the_policy_shows_what_holds(agent: Agent, policy: PolicySource, policy_file: Path) -> None:
    rewrite(policy, policy_file, "[shell]\nenabled = false\n[files]\nread = true\nread_directories = ['/srv']\n")
    answer = await agent.call("GET", "/v1/policy", token=agent.kit.call_token("command:read"))
    shown = json.loads(answer.body)["files"]
    assert (shown["read"], shown["write"], shown["read_directories"]) == (True, False, ["/srv"])
