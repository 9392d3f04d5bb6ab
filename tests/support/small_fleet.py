"""A control plane, relays and agents, each a process of its own, with lives of a minute or two: to be killed."""

import json
import os
import secrets
import signal
import subprocess
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.ports import kept_port
from certs.tls import client_context
from node_agent.identity.node_identity import IdentityStore, NodeIdentity
from tests.support.forked_commands import run_trunkline
from tests.support.sandboxes import TRUNKLINE, wait_until

LIFE_SECONDS = 90
# A relay has to outlive a control plane that is stopped while a node's renewal is waited for.
RELAY_LIFE_SECONDS = 135
WORKSPACE = "finance"


@dataclass
class SmallFleet:
    """Daemons by name: `control-plane`, `relay` and others whose names begin so, and nodes."""

    root: Path
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    workers: int = 1
    """Of the relay."""
    relay_port: int = 0
    life_seconds: int = LIFE_SECONDS
    """Of certificates and listen tokens."""

    # Processes

    def begin(self) -> None:
        """Start the control plane, on a port that it keeps, and the relay."""
        listen = f"[listen]\naddress = '127.0.0.1'\nport = {kept_port()}\n"
        self._write("control-plane", listen + self._control_plane())
        self._run("control-plane", "init", "--config", str(self._config("control-plane")))
        self.start("control-plane")
        account = self.api("GET", "/api/2.0/accounts")["account_id"]
        self.api("POST", f"/api/2.0/accounts/{account}/workspaces", {"workspace": WORKSPACE})
        self.enrol("relay")

    def enrol(self, relay: str) -> None:
        """Start a relay that enrols with a token that is good once."""
        account = self.api("GET", "/api/2.0/accounts")["account_id"]
        asked = {"name": relay, "dns_names": ["localhost"], "lifetime_seconds": 600}
        made = self.api("POST", f"/api/2.0/accounts/{account}/relay-join-tokens", asked)
        self._write_secret(relay, made["join_token"])
        enrolment = f"[enrolment]\nname = '{relay}'\njoin_token_file = '{self.root}/{relay}-join-token'\n"
        listen = f"[listen]\naddress = '127.0.0.1'\nport = {self.relay_port}\n"
        self._write(relay, self._reach() + enrolment + listen, f"workers = {self.workers}\n")
        self.start(relay)

    def join(self, node: str, *, policy: str | None = None, **token: Any) -> None:
        """Start an agent that joins with a token that is good once, under its owner's policy."""
        asked = {"lifetime_seconds": 600, "node_name": node, **token}
        self._write_secret(node, self.api("POST", f"/w/{WORKSPACE}/api/2.0/join-tokens", asked)["join_token"])
        bootstrap = f"[bootstrap]\nmethod = 'join_token'\njoin_token_file = '{self.root}/{node}-join-token'\n"
        links = "[links]\nbackoff_cap_seconds = 0.5\ndial_seconds = 3.0\n"
        if policy is not None:
            (self.root / f"{node}-policy.toml").write_text(policy)
            (self.root / f"{node}-policy.toml").chmod(0o600)
            links += f"[policy]\nfile = '{self.root}/{node}-policy.toml'\n"
        self._write(node, self._reach("request_seconds = 3.0\n") + bootstrap + links)
        self.start(node)

    def start(self, name: str, *, until_ready: bool = True) -> None:
        """Start a daemon and wait until it is ready; an agent is not before it is linked to a relay."""
        kind = name if name == "control-plane" else "relay" if name.startswith("relay") else "node-agent"
        self._endpoints_file(name).unlink(missing_ok=True)
        with (self.root / f"{name}.log").open("ab") as log:
            command = [TRUNKLINE, kind, "--config", str(self._config(name))]
            self.processes[name] = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        if until_ready:
            self._wait_until_ready(name)

    def _wait_until_ready(self, name: str) -> None:
        process, ready = self.processes[name], self._endpoints_file(name)
        wait_until(lambda: ready.exists() or process.poll() is not None, f"{name} is ready", 60)
        assert ready.exists(), f"{name} ended with status {process.returncode}:\n{self.log(name)}"

    def kill(self, name: str) -> None:
        """SIGKILL a daemon."""
        process = self.processes.pop(name)
        process.kill()
        process.wait(timeout=30)

    def stop(self, name: str) -> None:
        """SIGTERM a daemon, and wait until it has drained."""
        process = self.processes.pop(name)
        process.terminate()
        process.wait(timeout=30)

    def pause(self, name: str) -> None:
        """SIGSTOP a daemon: connections stay, and nothing is answered."""
        os.kill(self.processes[name].pid, signal.SIGSTOP)

    def go_on(self, name: str) -> None:
        """SIGCONT a daemon."""
        os.kill(self.processes[name].pid, signal.SIGCONT)

    def end(self) -> None:
        """Kill whatever runs."""
        for name in list(self.processes):
            self.kill(name)

    # What is seen of them

    def state(self, name: str) -> Path:
        """Return a daemon's state directory."""
        return self.root / name / "state"

    def identity(self, node: str) -> NodeIdentity:
        """Return the identity that a node has in force on its disk."""
        found = IdentityStore(self.state(node)).load()
        assert found is not None
        return found

    def has_file(self, node: str, name: str) -> bool:
        """Whether a node's state directory holds this file."""
        return (self.state(node) / name).exists()

    def endpoints(self, name: str) -> dict[str, Any]:
        """Return where a daemon is reached."""
        found: dict[str, Any] = json.loads(self._endpoints_file(name).read_text())
        return found

    def log(self, name: str) -> str:
        """Return what a daemon has logged."""
        path = self.root / f"{name}.log"
        return path.read_text(errors="replace") if path.exists() else ""

    def works(self, node: str) -> bool:
        """Whether a command runs on a node, by way of control plane, relay and agent."""
        command_id = f"c-{secrets.token_hex(8)}"
        body = {"command_id": command_id, "target": {"node": node}, "argv": ["true"]}
        self.api("POST", f"/w/{WORKSPACE}/api/2.0/commands", body)
        path = f"/w/{WORKSPACE}/api/2.0/commands/{command_id}"
        return bool(
            wait_until(lambda: self.api("GET", path)["state"] == "SUCCEEDED", f"{node} ran a command", seconds=20)
        )

    def audit(self, action: str) -> list[dict[str, Any]]:
        """Return the audit events of an action, newest first."""
        account = self.api("GET", "/api/2.0/accounts")["account_id"]
        return list(self.api("GET", f"/api/2.0/accounts/{account}/audit-events?action={action}")["events"])

    def api(self, method: str, path: str, body: Any = None) -> dict[str, Any]:
        """Call the control plane as the operator."""
        state = self.state("control-plane")
        request = urllib.request.Request(  # noqa: S310 - the control plane's URL is https
            self.endpoints("control-plane")["url"] + path,
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={
                "Authorization": f"Bearer {(state / 'operator-token').read_text().strip()}",
                "Content-Type": "application/json",
            },
        )
        context = client_context(ca_file=state / "ca.pem")
        try:
            with urllib.request.urlopen(request, context=context, timeout=30) as response:  # noqa: S310
                document: dict[str, Any] = json.loads(response.read())
                return document
        except urllib.error.HTTPError as error:
            raise AssertionError(f"{method} {path}: {error.read().decode()}") from None

    def run(self, *command: str, environment: dict[str, str] | None = None) -> str:
        """Run a command in the fleet's directory; returns what it printed."""
        environment = os.environ | (environment or {})
        done = subprocess.run(
            command, cwd=self.root, env=environment, capture_output=True, text=True, timeout=60, check=False
        )
        assert done.returncode == 0, f"{command} exited with {done.returncode}: {done.stderr}"
        return done.stdout

    def trunkline(self, *arguments: str) -> str:
        """Run the command line as the operator; returns what it printed."""
        state = self.state("control-plane")
        environment = {
            "TRUNKLINE_CONTROL_PLANE_URL": self.endpoints("control-plane")["url"],
            "TRUNKLINE_TOKEN_FILE": str(state / "operator-token"),
            "TRUNKLINE_CA_FILE": str(state / "ca.pem"),
            "TRUNKLINE_WORKSPACE": WORKSPACE,
        }
        done = run_trunkline(arguments, timeout=60, directory=self.root, environment=os.environ | environment)
        assert done.returncode == 0, f"{arguments} exited with {done.returncode}: {done.stderr.decode()}"
        return done.stdout.decode()

    def _control_plane(self) -> str:
        tokens = ("svid_seconds", "listen_seconds", "own_svid_seconds")
        return (
            f"[tokens]\nrelay_svid_seconds = {RELAY_LIFE_SECONDS}\n"
            + "".join(f"{name} = {self.life_seconds}\n" for name in tokens)
            + "[health]\ninterval_seconds = 1.0\n[limits]\ndrain_seconds = 1.0\n"
        )

    def _reach(self, more: str = "") -> str:
        url, ca_file = self.endpoints("control-plane")["url"], self.state("control-plane") / "ca.pem"
        return f"[control_plane]\nurl = '{url}'\nca_file = '{ca_file}'\n{more}"

    def _write(self, name: str, sections: str, keys: str = "") -> None:
        common = f"{keys}state_directory = '{self.state(name)}'\n[admin]\nport = 0\n[log]\nformat = 'json'\n"
        self._config(name).write_text(common + sections)

    def _write_secret(self, name: str, secret: str) -> None:
        path = self.root / f"{name}-join-token"
        path.touch(mode=0o600)
        path.write_text(secret)

    def _config(self, name: str) -> Path:
        return self.root / f"{name}.toml"

    def _endpoints_file(self, name: str) -> Path:
        return self.state(name) / "endpoints.json"

    def _run(self, *arguments: str) -> None:
        subprocess.run([TRUNKLINE, *arguments], check=True, capture_output=True, timeout=60)
