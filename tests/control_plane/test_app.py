"""The daemon as a process: exit codes, `init`, one process a directory, SIGTERM, and what survives SIGKILL."""

import asyncio
import contextlib
import json
import os
import signal
import sqlite3
import ssl
import stat
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from certs.keyfiles import generate_key, write_key
from certs.tls import client_context
from control_plane.app import main, serve
from control_plane.initialise import initialise
from control_plane.settings import ControlPlaneSettings
from tests.support.postgres import has_postgres, running_postgres
from trunkline.runtime.daemon import StartError
from trunkline.runtime.files import StateDirectoryError
from trunkline.runtime.settings import load_settings

# As the command line loads it: a fifth of a start goes otherwise.
PROGRAM = """import sys
from trunkline.runtime.loading import loading
with loading():
    from control_plane.app import main
sys.exit(main(sys.argv[1:]))"""
START_SECONDS = 30.0


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "control-plane.toml"
    path.write_text(
        f'state_directory = "{tmp_path / "state"}"\n[listen]\naddress = "127.0.0.1"\nport = 0\n[admin]\nport = 0\n'
    )
    return path


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", PROGRAM, *arguments]
    return subprocess.run(
        command, capture_output=True, text=True, timeout=START_SECONDS, check=False, env=environment or None
    )


def initialised(config: Path) -> None:
    """What `init` does, without a process of its own."""
    asyncio.run(initialise(load_settings(ControlPlaneSettings, config, {}, prefix="TRUNKLINE_CONTROL_PLANE")))


@contextmanager
def daemon(config: Path) -> Iterator[subprocess.Popen[str]]:
    endpoints = config.parent / "state" / "endpoints.json"
    endpoints.unlink(missing_ok=True)
    command = [sys.executable, "-c", PROGRAM, "--config", str(config)]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
    try:
        end = time.monotonic() + START_SECONDS
        while not endpoints.exists():
            assert process.poll() is None, process.stderr.read() if process.stderr else ""
            assert time.monotonic() < end
            time.sleep(0.02)
        yield process
    finally:
        process.kill()
        process.communicate()


def call(config: Path, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
    state = config.parent / "state"
    url = json.loads((state / "endpoints.json").read_text())["url"]
    headers = {
        "Authorization": f"Bearer {(state / 'operator-token').read_text().strip()}",
        "Content-Type": "application/json",
    }
    content = json.dumps(body).encode() if body is not None else None
    request = urllib.request.Request(url + path, data=content, headers=headers)  # noqa: S310 - https only
    context: ssl.SSLContext = client_context(ca_file=state / "ca.pem")
    with urllib.request.urlopen(request, context=context, timeout=START_SECONDS) as response:  # noqa: S310
        document: dict[str, Any] = json.load(response)
        return document


def test_without_init_it_says_what_to_run(config: Path):
    done = run("--config", str(config))
    assert done.returncode == 78
    assert "trunkline control-plane init --config" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (config.parent / "state").exists()


@pytest.fixture
def own_umask() -> Iterator[None]:
    """For a program that runs in this process, and ends before it begins anything."""
    before = os.umask(0o077)
    yield
    os.umask(before)


@pytest.mark.usefixtures("own_umask")
def test_settings_are_checked_all_at_once(config: Path, capsys: pytest.CaptureFixture[str]):
    config.write_text(config.read_text() + '[tokens]\nsvid_seconds = "long"\n[colour]\nred = 1\n')
    assert main(["--config", str(config), "--check-config"]) == 78
    said = capsys.readouterr().err
    assert "svid_seconds" in said
    assert "colour" in said
    assert main(["--config", str(config.with_name("none.toml"))]) == 78


def test_a_database_that_was_lost_is_not_to_be_made_anew(config: Path):
    (config.parent / "state").mkdir(mode=0o700)
    (config.parent / "state" / "authority").mkdir(mode=0o700)
    done = run("--config", str(config))
    assert done.returncode == 78
    assert "the database is empty" in done.stderr
    assert "restore the backup" in done.stderr


def test_an_authority_that_a_backup_lacked_is_to_be_put_back_and_not_made_anew(config: Path):
    initialised(config)
    authority = config.parent / "state" / "authority"
    authority.rename(config.parent / "elsewhere")
    done = run("--config", str(config))
    assert done.returncode == 78
    assert f"{authority} is missing: put it back" in done.stderr
    assert "init" not in done.stderr.replace("initialised", "")


@pytest.mark.usefixtures("own_umask")
def test_check_config(config: Path):
    assert main(["--config", str(config), "--check-config"]) == 0


@pytest.mark.usefixtures("own_umask")
def test_certificates_that_cannot_be_used_are_named_before_a_start(config: Path, capsys: pytest.CaptureFixture[str]):
    garbage, key = config.with_name("garbage.pem"), config.with_name("key.pem")
    garbage.write_text("garbage")
    write_key(key, generate_key())
    config.write_text(
        f'{config.read_text()}[tls]\ncertificate_file = "{garbage}"\nkey_file = "{key}"\n'
        f'[relay_reach]\nca_file = "{garbage}"\n'
        '[bootstrap.aws]\naccounts = ["123456789012"]\n'
        f'[bootstrap.aws.certificate_files]\n"eu-central-1" = "{garbage}"\n'
    )
    assert main(["--config", str(config), "--check-config"]) == 78
    said = capsys.readouterr().err.splitlines()
    assert [line.split("]")[0] for line in said] == [
        f"trunkline control-plane: [{table}" for table in ("tls", "relay_reach", "bootstrap")
    ]
    assert all(str(garbage) in line for line in said)


def test_a_database_that_is_none_is_one_line(config: Path):
    initialised(config)
    database = config.parent / "state" / "control-plane.db"
    for beside in database.parent.glob("control-plane.db-*"):
        beside.unlink()
    database.write_bytes(b"\x1f\x8b\x08\x00" + bytes(5000))  # compressed, as backups are kept
    settings = load_settings(ControlPlaneSettings, config, {}, prefix="TRUNKLINE_CONTROL_PLANE")
    with pytest.raises(StartError, match=r"file is not a database.*restore it from a backup"):
        asyncio.run(serve(settings))


def test_a_database_in_a_directory_that_is_not_there_is_one_line(config: Path):
    initialised(config)
    elsewhere = {"TRUNKLINE_CONTROL_PLANE__DATABASE__URL": f"sqlite+aiosqlite:///{config.parent / 'none' / 'x.db'}"}
    settings = load_settings(ControlPlaneSettings, config, elsewhere, prefix="TRUNKLINE_CONTROL_PLANE")
    with pytest.raises(StartError, match=r"none/x\.db cannot be opened: No such file or directory"):
        asyncio.run(serve(settings))


def test_init_is_idempotent_and_leaves_private_files(config: Path):
    state = config.parent / "state"
    kept = ("operator-token", "token-key.pem", "ca.pem", "authority/root.pem")
    assert run("init", "--config", str(config)).returncode == 0
    before = {name: (state / name).read_bytes() for name in kept}
    done = run("init", "--config", str(config))
    assert done.returncode == 0
    assert str(state / "operator-token") in done.stdout
    assert before["operator-token"].decode().strip() not in done.stdout + done.stderr
    assert {name: (state / name).read_bytes() for name in kept} == before
    for name in ("operator-token", "token-key.pem", "control-plane.db", "authority/root-key.pem"):
        assert stat.S_IMODE((state / name).stat().st_mode) == 0o600, name
    assert before["operator-token"].strip() not in (state / "control-plane.db").read_bytes()


def test_a_removed_token_is_replaced_and_the_old_one_ends(config: Path):
    state = config.parent / "state"
    initialised(config)
    old = (state / "operator-token").read_text()
    (state / "operator-token").unlink()
    assert run("init", "--config", str(config)).returncode == 0
    new = (state / "operator-token").read_text()
    assert new != old
    with daemon(config):
        assert call(config, "/api/2.0/accounts")["account_id"].startswith("ac-")
        (state / "operator-token").write_text(old)
        with pytest.raises(urllib.error.HTTPError, match="401"):
            call(config, "/api/2.0/accounts")


def test_one_process_a_directory_and_sigterm_drains(config: Path):
    initialised(config)
    with daemon(config) as process:
        second = run("--config", str(config))
        assert second.returncode == 73
        assert "another process is using it" in second.stderr
        assert run("init", "--config", str(config)).returncode == 73
        process.send_signal(signal.SIGTERM)
        _, log = process.communicate(timeout=START_SECONDS)
        assert process.returncode == 0
        assert "Traceback" not in log
    assert not (config.parent / "state" / "endpoints.json").exists()


def test_what_was_acknowledged_survives_sigkill(config: Path):
    initialised(config)
    for number in range(2):
        with daemon(config) as process:
            answer = call(config, "/api/2.0/revocations", {"kind": "token", "id": f"jti-{number}"})
            process.kill()
            process.wait()
    with daemon(config):
        listed = call(config, "/api/2.0/revocations")["revocations"]
        assert [one["id"] for one in listed] == ["jti-0", "jti-1"]
        assert listed[-1]["sequence"] == answer["sequence"]


def test_a_read_only_state_directory_is_refused(config: Path):
    state = config.parent / "state"
    state.write_text("a file where the directory should be")
    done = run("init", "--config", str(config))
    assert done.returncode == 73
    assert "Traceback" not in done.stderr
    state.unlink()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
async def test_a_directory_of_somebody_elses_is_one_line(config: Path):
    (config.parent / "state").mkdir(mode=0o700)
    settings = load_settings(ControlPlaneSettings, config, {}, prefix="TRUNKLINE_CONTROL_PLANE")
    os.seteuid(65534)
    try:
        with pytest.raises(StateDirectoryError, match="must belong to the user that runs the daemon"):
            await serve(settings)
    finally:
        os.seteuid(0)


def test_a_start_on_a_full_disk_is_one_that_the_service_manager_tries_again(config: Path):
    initialised(config)
    no_room = f"import resource as r; r.setrlimit(r.RLIMIT_FSIZE, (4096, 4096)); {PROGRAM}"
    command = [sys.executable, "-c", no_room, "--config", str(config)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=START_SECONDS, check=False)
    assert done.returncode == 73, done.stderr
    assert "the disk is full or read-only" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_database_that_is_emptied_under_it_ends_it_in_one_line(config: Path):
    initialised(config)
    database = config.parent / "state" / "control-plane.db"
    with daemon(config) as process:
        with contextlib.closing(sqlite3.connect(database)) as other, other:
            other.execute("DELETE FROM accounts")
        _, log = process.communicate(timeout=START_SECONDS)
        assert (process.returncode, "Traceback" in log) == (69, False)
        assert "has lost its tables, or what was in them: restore the backup" in log


async def test_a_start_on_a_database_without_its_tables_is_one_line(config: Path):
    settings = load_settings(ControlPlaneSettings, config, {}, prefix="TRUNKLINE_CONTROL_PLANE")
    await initialise(settings)
    with contextlib.closing(sqlite3.connect(config.parent / "state" / "control-plane.db")) as other:
        other.execute("DROP TABLE rotations")
    with pytest.raises(StartError, match="has lost its tables"):
        await serve(settings)


def test_another_trust_domain_than_that_of_init_is_refused_before_anything_is_published(config: Path):
    initialised(config)
    config.write_text(config.read_text() + '[identity]\ntrust_domain = "example.org"\n')
    settings = load_settings(ControlPlaneSettings, config, {}, prefix="TRUNKLINE_CONTROL_PLANE")
    with pytest.raises(StartError, match=r"identity\.trust_domain .*trunkline\.internal") as refused:
        asyncio.run(asyncio.wait_for(serve(settings), START_SECONDS))
    assert refused.value.exit_code == 78
    with contextlib.closing(sqlite3.connect(config.parent / "state" / "control-plane.db")) as database:
        assert database.execute("SELECT trust_fingerprint FROM accounts").fetchall() == [(None,)]


def test_a_port_that_is_taken_is_one_line(config: Path):
    import socket

    initialised(config)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        config.write_text(config.read_text().replace("port = 0", f"port = {taken.getsockname()[1]}", 1))
        done = run("--config", str(config))
    assert done.returncode == 69
    assert "; change [listen]" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.skipif(not has_postgres(), reason="PostgreSQL is not installed")
def test_a_database_that_hangs_is_told_of_and_found_again(config: Path):
    with running_postgres() as server:
        config.write_text(config.read_text() + f'[database]\nurl = "{server.url}"\nquery_timeout_seconds = 1\n')
        initialised(config)
        with daemon(config) as process:
            with server.standing_still():
                with pytest.raises(urllib.error.HTTPError) as refused:
                    call(config, "/api/2.0/revocations")
                assert refused.value.code == 503
                assert refused.value.headers["Retry-After"]
                refused.value.close()
                assert "503" in readiness(config)["remarks"]["database"]
            call(config, "/api/2.0/revocations")
            end = time.monotonic() + START_SECONDS
            while "database" in readiness(config).get("remarks", {}):
                assert time.monotonic() < end
                time.sleep(0.02)
            assert process.poll() is None


def readiness(config: Path) -> dict[str, Any]:
    url = json.loads((config.parent / "state" / "endpoints.json").read_text())["admin_url"]
    with urllib.request.urlopen(url + "/readyz?verbose", timeout=START_SECONDS) as response:  # noqa: S310
        document: dict[str, Any] = json.load(response)
        return document
