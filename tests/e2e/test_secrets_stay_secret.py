"""No secret of a running system is in a log, an argument, an environment, a metric, or the audit; files are private."""

import base64
import json
import re
import stat
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest

from node_agent.secrets.memory_files import candidates_for
from tests.support.raw_calls import RawAnswer, RawConnection
from tests.support.sandboxes import Sandbox, wait_until

ENVIRONMENT_CANARY = "canary-9b1f-in-the-environment"
STDIN_CANARY = "canary-77d0-on-standard-input"
WORKSPACE_CANARIES = {
    "rotated": "canary-1c55-workspace-secret-of-before",
    "present": "canary-8e02-workspace-secret-of-now",
    "deleted": "canary-40aa-workspace-secret-that-was-deleted",
    "lines": "canary-6b1f-first-line\ncanary-d973-second-line\n",
}
PRIVATE_KEY = re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----\s+([A-Za-z0-9+/=\s]+)-----END")
TOKEN = re.compile(r"eyJ[A-Za-z0-9_-]{16,}\.[A-Za-z0-9_-]{16,}\.|\btl[a-z]-[A-Za-z0-9_-]{32,}")


@pytest.fixture(scope="module")
def operator(sandbox: Sandbox) -> str:
    return Path(sandbox.description["admin_token_file"]).read_text().strip()


@pytest.fixture(scope="module")
def secrets(sandbox: Sandbox, operator: str) -> dict[str, str]:
    """Every secret there is, by what it is, after each of them was used rightly and wrongly."""
    call_token = sandbox.json("token", "call", "vm-1")["token"]
    found = {
        "operator token": operator,
        "call token": call_token,
        "node join token": sandbox.json("token", "join")["join_token"],
        "relay join token": (sandbox.state / "relay" / "join-token").read_text().strip(),
        "environment of a command": ENVIRONMENT_CANARY,
        "standard input of a command": STDIN_CANARY,
    }
    for path in sorted((sandbox.state / "nodes").glob("*/state/identity.json")):
        identity = json.loads(path.read_text())
        found |= {f"{name} of {path.parts[-3]}": identity[name] for name in ("listen_token", "sealing_key")}
    for path in sorted(path for path in sandbox.state.rglob("*") if path.suffix in (".pem", ".json")):
        for number, body in enumerate(PRIVATE_KEY.findall(path.read_text().replace("\\n", "\n"))):
            found[f"private key {number} in {path.relative_to(sandbox.state)}"] = body.split("\n")[1]
    run_with_canaries(sandbox, operator)
    run_with_workspace_secrets(sandbox)
    for name, value in WORKSPACE_CANARIES.items():
        for number, line in enumerate(value.splitlines()):
            found[f"workspace secret {name} {number}"] = line
        found[f"workspace secret {name} as base64"] = base64.b64encode(value.encode()).decode().rstrip("=")
    keys = json.loads((sandbox.state / "control-plane" / "state" / "secret-keys.json").read_text())["keys"]
    found |= {f"key-encryption key {key_id}": key for key_id, key in keys.items()}
    misuse(sandbox, operator, found)
    return found


def bearer(token: str) -> str:
    return f"Authorization: Bearer {token}"


def plane(sandbox: Sandbox, line: str, token: str, body: Any = None) -> RawAnswer:
    description = sandbox.description
    with RawConnection(description["control_plane_url"], description["ca_file"]) as connection:
        content = b"" if body is None else json.dumps(body).encode()
        return connection.request(
            line, f"Host: {connection.host}", bearer(token), "Content-Type: application/json", body=content
        )


def run_with_canaries(sandbox: Sandbox, operator: str) -> None:
    """Run a command that is given secrets, and keeps them to itself."""
    body = {
        "command_id": "canary",
        "target": {"node": "vm-1"},
        "argv": ["sh", "-c", 'test -n "$CANARY" && cat >/dev/null'],
        "environment": {"CANARY": ENVIRONMENT_CANARY},
        "stdin": base64.b64encode(STDIN_CANARY.encode()).decode(),
    }
    assert plane(sandbox, "POST /w/main/api/2.0/commands", operator, body).status in (200, 201)
    wait_until(lambda: sandbox.json("command", "get", "canary")["state"] == "SUCCEEDED", "the command has run")


def run_with_workspace_secrets(sandbox: Sandbox) -> None:
    """Put, use, show, rotate and delete secrets, and rotate the key above them all."""

    def put(name: str, canary: str) -> None:
        sandbox.trunkline("secret", "put", f"vault/{name}", stdin=WORKSPACE_CANARIES[canary].encode())

    sandbox.trunkline("secret", "create-scope", "vault")
    sandbox.trunkline("secret", "grant", "vault", "--all")
    for name, canary in (("one", "rotated"), ("two", "deleted"), ("three", "lines")):
        put(name, canary)
    script = 'test -n "$ONE$TWO" && echo "$ONE" && cat "$TRUNKLINE_SECRETS_DIRECTORY/three" >&2 && echo "$TWO" >&2'
    given = ("--secret-env", "ONE=vault/one", "--secret-env", "TWO=vault/two", "--secret-file", "three=vault/three")
    shown = sandbox.trunkline("run", "--node", "vm-1", *given, "--", "sh", "-c", script)
    assert (shown.stdout, shown.stderr) == (b"[redacted]\n", b"[redacted]\n[redacted]\n")
    put("one", "present")
    wait_until(lambda: adopted(sandbox) == {"vm-1", "vm-2"}, "the rotated secret has reached running nodes")
    length = len(WORKSPACE_CANARIES["present"])
    sandbox.trunkline("run", "--all", *given[:2], "--", "sh", "-c", f"test ${{#ONE}} = {length}")
    sandbox.trunkline("secret", "delete", "vault/two", "--yes")
    sandbox.trunkline("secret", "rotate-key")


def adopted(sandbox: Sandbox) -> set[str]:
    nodes = sandbox.json("secret", "adoption", "vault/one")["nodes"]
    return {node["node"] for node in nodes if node["state"] == "adopted"}


def misuse(sandbox: Sandbox, operator: str, secrets: dict[str, str]) -> None:
    """Send each secret where it does not belong: a refusal must not repeat it either."""
    description = sandbox.description
    for name, secret in secrets.items():
        if not re.fullmatch(r"[A-Za-z0-9._~+/=-]+", secret):
            continue
        answers = [plane(sandbox, "GET /w/main/api/2.0/nodes", secret)] if secret != operator else []
        answers.append(plane(sandbox, f"DELETE /w/main/api/2.0/join-tokens/{secret.replace('/', '-')}", "wrong"))
        with RawConnection(description["relay_url"], description["ca_file"]) as relay:
            line = "GET /v1/workspaces/main/nodes/vm-1/v1/health"
            answers.append(relay.request(line, f"Host: {relay.host}", bearer(secret)))
        with RawConnection(description["relay_url"], description["ca_file"]) as relay:
            upgrade = ("Connection: Upgrade", "Upgrade: yamux", bearer(secret + "x"))
            answers.append(relay.request("GET /v1/link", f"Host: {relay.host}", *upgrade))
        assert all(secret not in answer.head + answer.body.decode() for answer in answers), name
    for name in ("node join token", "call token"):
        plane(sandbox, f"DELETE /w/main/api/2.0/join-tokens/{secrets[name]}", operator)


def assert_clean(text: str, secrets: dict[str, str], where: str) -> None:
    leaked = [name for name, secret in secrets.items() if secret in text]
    assert not leaked, f"{where} holds: {leaked}"
    assert not TOKEN.search(text), f"{where} holds what looks like a token"


def processes(sandbox: Sandbox) -> Iterator[int]:
    for role in sandbox.description["pids"].values():
        yield from role if isinstance(role, list) else [role]


def test_the_logs_hold_none(sandbox: Sandbox, secrets: dict[str, str]) -> None:
    for path in sorted((sandbox.state / "log").iterdir()):
        assert_clean(path.read_text(errors="replace"), secrets, path.name)


@pytest.mark.parametrize("what", ["cmdline", "environ"])
def test_no_process_shows_one(sandbox: Sandbox, secrets: dict[str, str], what: str) -> None:
    for pid in processes(sandbox):
        assert_clean(Path(f"/proc/{pid}/{what}").read_bytes().decode(errors="replace"), secrets, f"{pid}/{what}")


def test_the_admin_pages_hold_none(sandbox: Sandbox, secrets: dict[str, str]) -> None:
    for role in sandbox.description["admin_urls"].values():
        for url in role if isinstance(role, list) else [role]:
            for page in ("metrics", "readyz?verbose"):
                with urlopen(f"{url}/{page}", timeout=10) as answer:  # noqa: S310 - plain HTTP on loopback
                    assert_clean(answer.read().decode(), secrets, f"{url}/{page}")


def test_the_audit_holds_none(sandbox: Sandbox, secrets: dict[str, str], operator: str) -> None:
    account = json.loads(plane(sandbox, "GET /api/2.0/accounts", operator).body)["account_id"]
    time.sleep(1.0)  # refusals are written twice a second

    def audited() -> bytes | None:
        answer = plane(sandbox, f"GET /api/2.0/accounts/{account}/audit-events?page_size=1000", operator)
        return answer.body if b"join-tokens" in answer.body else None

    assert_clean(wait_until(audited, "the misuse is audited").decode(), secrets, "the audit")


def test_what_is_told_to_clients_holds_none(sandbox: Sandbox, secrets: dict[str, str], operator: str) -> None:
    assert_clean((sandbox.state / "sandbox.json").read_text(), secrets, "sandbox.json")
    for path in ("commands/canary", "commands", "nodes", "join-tokens", "secrets/list?scope=vault"):
        assert_clean(plane(sandbox, f"GET /w/main/api/2.0/{path}", operator).body.decode(), secrets, path)


def files_in(directory: Path) -> Iterator[tuple[Path, int, bytes]]:
    """Every file below a directory, with its mode and content; one that has taken another's place is left out."""
    for path in directory.rglob("*"):
        try:
            if path.is_file():
                yield path, stat.S_IMODE(path.lstat().st_mode), path.read_bytes()
        except FileNotFoundError:
            continue


def some(directory: Path, pattern: str) -> list[Path]:
    """What is there by this pattern, which is never nothing: a rule about no file at all would always hold."""
    found = list(directory.glob(pattern))
    assert found, f"nothing is there as {directory / pattern}"
    return found


def test_the_database_holds_no_credential_of_ours(sandbox: Sandbox, secrets: dict[str, str]) -> None:
    """Answers to bootstraps are kept for ten minutes, and with them listen tokens, which need their keys.

    What a command was sent stays in the write-ahead log until housekeeping, which comes once a minute.
    """
    kept = {name for name in secrets if name.startswith(("listen_token", "standard input", "environment"))}
    for path in some(sandbox.state / "control-plane" / "state", "control-plane.db*"):
        text = path.read_bytes().decode("latin-1")
        assert [name for name, secret in secrets.items() if name not in kept and secret in text] == [], path


def test_the_nodes_keep_nothing_that_a_command_was_given(sandbox: Sandbox, secrets: dict[str, str]) -> None:
    for path in some(sandbox.state / "nodes", "*/state/commands/*/*"):
        text = path.read_text(errors="replace")
        assert ENVIRONMENT_CANARY not in text
        assert STDIN_CANARY not in text


def test_workspace_secrets_are_in_no_file_and_leave_nothing_in_memory(
    sandbox: Sandbox, secrets: dict[str, str]
) -> None:
    """Not in the database and its log, not in a state directory or log file, not in what a command wrote."""
    values = {name: secret.encode() for name, secret in secrets.items() if name.startswith("workspace secret")}
    assert len(values) > len(WORKSPACE_CANARIES)
    for path, _, content in files_in(sandbox.state):
        assert [name for name, value in values.items() if value in content] == [], path
    for state in some(sandbox.state / "nodes", "*/state"):
        left = [place for base in candidates_for(None, state) if base.exists() for place in base.iterdir()]
        assert left == [], "the private directory of a command that has ended"


def test_files_are_for_their_owner(sandbox: Sandbox, secrets: dict[str, str]) -> None:
    for path in [sandbox.state, *sandbox.state.rglob("*")]:
        if path.is_dir():
            assert stat.S_IMODE(path.stat().st_mode) == 0o700, path
    for path, mode, content in files_in(sandbox.state):
        assert not mode & 0o022, f"others can write {path}"
        text = content.decode("latin-1").replace("\\n", "\n")
        if "PRIVATE KEY" in text or any(secret in text for secret in secrets.values()):
            assert mode == 0o600, f"{path} holds a secret and has mode {mode:o}"
