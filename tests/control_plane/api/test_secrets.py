"""Secrets over the API: values go in and never come out; rows that were moved do not open; deletion leaves nothing."""

import base64
import json

import pytest
from sqlalchemy import text, update

from control_plane.api.init_scripts import MOST_GLOBAL_SCRIPTS
from control_plane.api.pages import DEFAULT_PAGE_SIZE, LARGEST_PAGE_SIZE
from control_plane.api.secret_scopes import MOST_SCOPES
from control_plane.secrets.vault import LARGEST_VALUE_BYTES, MOST_SECRETS
from control_plane.storage.records.secrets import WorkspaceSecret
from tests.support.control_planes import RunningControlPlane

PATH = "/w/finance/api/2.0/secrets"
VALUE = "canary-value-5d1c"


@pytest.fixture
async def scoped(plane: RunningControlPlane) -> RunningControlPlane:
    await plane.workspace()
    await plane.ok("POST", f"{PATH}/scopes/create", {"scope": "db"})
    return plane


async def put(plane: RunningControlPlane, key: str = "password", value: str = VALUE, scope: str = "db") -> int:
    answer = await plane.ok("POST", f"{PATH}/put", {"scope": scope, "key": key, "string_value": value})
    return int(answer["version"])


async def opened(plane: RunningControlPlane, key: str = "password") -> bytes:
    async with plane.database.read() as session:
        workspace_id = (await plane.workspace())["workspace_id"]
        row = await session.get_one(WorkspaceSecret, (workspace_id, "db", key))
        return (await plane.control_plane.secrets.vault.open(session, workspace_id, [row]))[0]


async def test_put_list_and_delete(scoped: RunningControlPlane):
    assert await put(scoped) == 1
    raw = base64.b64encode(b"\x00\xff").decode()
    assert (await scoped.ok("POST", f"{PATH}/put", {"scope": "db", "key": "raw", "bytes_value": raw}))["version"] == 2
    assert (await opened(scoped), await opened(scoped, "raw")) == (VALUE.encode(), b"\x00\xff")
    listed = (await scoped.ok("GET", f"{PATH}/list?scope=db"))["secrets"]
    assert [(one["key"], one["version"], one["size_bytes"]) for one in listed] == [("password", 1, 17), ("raw", 2, 2)]
    assert VALUE not in json.dumps(listed)
    await scoped.ok("POST", f"{PATH}/delete", {"scope": "db", "key": "raw"})
    assert len((await scoped.ok("GET", f"{PATH}/list?scope=db"))["secrets"]) == 1
    assert (await scoped.call("POST", f"{PATH}/delete", {"scope": "db", "key": "raw"})).status == 404


async def test_the_same_value_again_is_the_same_version_and_no_version_is_given_twice(scoped: RunningControlPlane):
    assert [await put(scoped), await put(scoped), await put(scoped, value="other"), await put(scoped)] == [1, 1, 2, 3]
    await scoped.ok("POST", f"{PATH}/delete", {"scope": "db", "key": "password"})
    assert await put(scoped) == 4


async def test_a_client_that_knows_no_pages_sees_every_secret_and_scope(scoped: RunningControlPlane):
    for number in range(DEFAULT_PAGE_SIZE + 1):
        await put(scoped, key=f"key-{number}")
    listed = await scoped.ok("GET", f"{PATH}/list?scope=db")
    assert (len(listed["secrets"]), "next_page_token" in listed) == (DEFAULT_PAGE_SIZE + 1, False)
    assert "next_page_token" in await scoped.ok("GET", f"{PATH}/list?scope=db&page_size=100")
    assert MOST_SCOPES <= DEFAULT_PAGE_SIZE
    assert MOST_GLOBAL_SCRIPTS <= DEFAULT_PAGE_SIZE
    assert MOST_SECRETS <= LARGEST_PAGE_SIZE


@pytest.mark.parametrize(
    ("bound", "path", "body"),
    [
        ("api.secret_scopes.MOST_SCOPES", "scopes/create", {"scope": "web"}),
        ("secrets.vault.MOST_SECRETS", "put", {"scope": "db", "key": "k", "string_value": "v"}),
        ("secrets.vault.MOST_BYTES", "put", {"scope": "db", "key": "k", "string_value": "v"}),
        ("api.secret_grants.MOST_GRANTS", "grants/put", {"scope": "db", "target": {"all": True}}),
    ],
)
async def test_a_bound_that_waiting_does_not_move_is_nothing_to_ask_again_for(
    scoped: RunningControlPlane, monkeypatch: pytest.MonkeyPatch, bound: str, path: str, body: dict[str, object]
):
    monkeypatch.setattr(f"control_plane.{bound}", 0)
    answer = await scoped.call("POST", f"{PATH}/{path}", body)
    assert (answer.status, answer.error_code) == (400, "RESOURCE_LIMIT_EXCEEDED")


async def test_scopes(scoped: RunningControlPlane):
    assert (await scoped.call("POST", f"{PATH}/scopes/create", {"scope": "db"})).status == 200
    assert (await scoped.call("POST", f"{PATH}/scopes/create", {"scope": "web"})).status == 201
    listed = (await scoped.ok("GET", f"{PATH}/scopes/list"))["scopes"]
    assert [one["name"] for one in listed] == ["db", "web"]
    await put(scoped)
    await scoped.ok("POST", f"{PATH}/scopes/delete", {"scope": "db"})
    assert (await scoped.call("GET", f"{PATH}/list?scope=db")).status == 404
    assert (await scoped.call("POST", f"{PATH}/put", {"scope": "db", "key": "k", "string_value": "x"})).status == 404


@pytest.mark.parametrize(
    "body",
    [
        {"key": "k"},
        {"key": "k", "string_value": "x", "bytes_value": "eA=="},
        {"key": "k", "string_value": ""},
        {"key": "k", "bytes_value": "no base64 canary"},
        {"key": "../k", "string_value": "canary"},
        {"key": "k", "string_value": "canary" * LARGEST_VALUE_BYTES},
        {"key": "k", "string_value": "canary", "note": "x"},
        {"key": "k", "string_value": ["canary"]},
    ],
)
async def test_what_is_no_secret_is_refused_without_being_repeated(scoped: RunningControlPlane, body):
    answer = await scoped.call("POST", f"{PATH}/put", {"scope": "db", **body})
    assert answer.status in (400, 413)
    assert "canary" not in json.dumps(answer.document)
    assert "canary" not in json.dumps(await scoped.audit())


async def test_the_largest_value(scoped: RunningControlPlane):
    await put(scoped, value="x" * LARGEST_VALUE_BYTES)
    assert len(await opened(scoped)) == LARGEST_VALUE_BYTES


async def test_the_values_of_a_workspace_have_a_bound_together(scoped: RunningControlPlane, monkeypatch):
    monkeypatch.setattr("control_plane.secrets.vault.MOST_BYTES", 30)
    await put(scoped)
    assert (await scoped.call("POST", f"{PATH}/put", {"scope": "db", "key": "k", "string_value": VALUE})).status == 400
    await put(scoped, value="x" * 30)
    monkeypatch.setattr("control_plane.secrets.vault.MOST_SECRETS", 1)
    assert (await scoped.call("POST", f"{PATH}/put", {"scope": "db", "key": "k", "string_value": "x"})).status == 400


@pytest.mark.parametrize("column", ["sealed", "sealed, version"])
async def test_rows_that_were_swapped_in_the_database_do_not_open(scoped: RunningControlPlane, column: str):
    """Whoever can write the database cannot have one secret handed out as another."""
    await put(scoped, "admin", "the admin's")
    await put(scoped, "guest", "the guest's")
    async with scoped.database.write() as session:
        await session.execute(
            text(
                f"UPDATE secrets SET ({column}) = (SELECT {column} FROM secrets AS other "  # noqa: S608 - our own words
                "WHERE other.key = 'admin') WHERE key = 'guest'"
            )
        )
    assert await opened(scoped, "admin") == b"the admin's"
    with pytest.raises(Exception, match="does not open"):
        await opened(scoped, "guest")


async def test_an_older_ciphertext_does_not_open_as_the_present_version(scoped: RunningControlPlane):
    await put(scoped, value="old")
    async with scoped.database.read() as session:
        workspace_id = (await scoped.workspace())["workspace_id"]
        old = (await session.get(WorkspaceSecret, (workspace_id, "db", "password"))).sealed
    await put(scoped, value="new")
    async with scoped.database.write() as session:
        await session.execute(update(WorkspaceSecret).values(sealed=old))
    with pytest.raises(Exception, match="does not open"):
        await opened(scoped)


async def test_a_data_key_of_another_workspace_does_not_open(scoped: RunningControlPlane):
    await put(scoped)
    await scoped.workspace("sales")
    await scoped.ok("POST", "/w/sales/api/2.0/secrets/scopes/create", {"scope": "db"})
    body = {"scope": "db", "key": "password", "string_value": "x"}
    await scoped.ok("POST", "/w/sales/api/2.0/secrets/put", body)
    async with scoped.database.write() as session:
        await session.execute(text("UPDATE secret_data_keys SET wrapped = (SELECT max(wrapped) FROM secret_data_keys)"))
    answers = [
        await scoped.call("POST", f"/w/{workspace}/api/2.0/secrets/put", body | {"string_value": "y"})
        for workspace in ("finance", "sales")
    ]
    assert sorted(answer.status for answer in answers) == [200, 500]


async def test_the_key_file_of_another_time_is_named(scoped: RunningControlPlane, tmp_path):
    await put(scoped)
    async with scoped.database.write() as session:
        await session.execute(text("UPDATE secret_data_keys SET key_id = 'kek-gone'"))
    answer = await scoped.call("POST", f"{PATH}/put", {"scope": "db", "key": "k", "string_value": "x"})
    assert (answer.status, answer.error_code) == (500, "INTERNAL_ERROR")
    assert "secret-keys.json" in answer.document["message"]


async def test_no_value_is_in_the_files_and_what_is_deleted_leaves_them(scoped: RunningControlPlane, tmp_path):
    await put(scoped)
    async with scoped.database.read() as session:
        workspace_id = (await scoped.workspace())["workspace_id"]
        sealed = (await session.get(WorkspaceSecret, (workspace_id, "db", "password"))).sealed
    everything = b"".join(path.read_bytes() for path in scoped.settings.state_directory.glob("control-plane.db*"))
    assert sealed in everything
    assert VALUE.encode() not in everything
    assert base64.b64encode(VALUE.encode()) not in everything
    await scoped.ok("POST", f"{PATH}/delete", {"scope": "db", "key": "password"})
    await scoped.database.scrub()
    everything = b"".join(path.read_bytes() for path in scoped.settings.state_directory.glob("control-plane.db*"))
    assert sealed not in everything


async def test_everything_is_audited_and_no_value_is(scoped: RunningControlPlane):
    await put(scoped)
    await scoped.ok("POST", f"{PATH}/delete", {"scope": "db", "key": "password"})
    await scoped.ok("POST", f"{scoped.account}/secrets/rotate-key", {})
    await scoped.ok("POST", f"{PATH}/scopes/delete", {"scope": "db"})
    events = await scoped.audit()
    actions = [event["action"] for event in events if event["action"].startswith("secret.")]
    assert actions == [
        "secret.delete_scope",
        "secret.rotate_key",
        "secret.delete",
        "secret.put",
        "secret.create_scope",
    ]
    assert VALUE not in json.dumps(events)


async def test_the_key_is_rotated_while_secrets_are_used(scoped: RunningControlPlane):
    await put(scoped)
    before = scoped.settings.secret_keys_file.read_bytes()
    answer = await scoped.ok("POST", f"{scoped.account}/secrets/rotate-key", {})
    assert answer["workspaces"] == 1
    assert scoped.settings.secret_keys_file.read_bytes() != before
    assert await opened(scoped) == VALUE.encode()
    assert await put(scoped, value="next") == 2


async def test_a_workspace_takes_its_secrets_with_it(scoped: RunningControlPlane):
    await put(scoped)
    await scoped.ok("DELETE", f"{scoped.account}/workspaces/finance")
    async with scoped.database.read() as session:
        for table in ("secrets", "secret_scopes", "secret_data_keys", "secret_grants"):
            assert (await session.execute(text(f"SELECT count(*) FROM {table}"))).scalar() == 0  # noqa: S608


async def test_operators_only(scoped: RunningControlPlane):
    for method, path in (("POST", "/put"), ("POST", "/delete"), ("GET", "/list?scope=db"), ("GET", "/scopes/list")):
        assert (await scoped.call(method, PATH + path, {} if method == "POST" else None, token=None)).status == 401
