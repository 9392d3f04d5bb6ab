"""The commands' side of a node's API: submit, ask, cancel, standard input, output.

What changes something has a token of its own, bound to its content; questions share theirs for a while.
"""

import json
import math
from dataclasses import dataclass
from urllib.parse import quote, urlencode

from certs.bindings import LONGEST_SUBMIT_SECONDS, Binding
from certs.claims import LEEWAY_SECONDS
from certs.scopes import COMMAND_READ, COMMAND_SUBMIT, HEALTH_READ
from certs.spiffe import control_plane_id
from certs.tokens import IssuedToken
from control_plane.fleet.reach import NodeAnswer, NodeCall, NodeReach
from control_plane.fleet.reading_tokens import ReadingTokens
from control_plane.identity.issuance import Issuance
from control_plane.storage.records.accounts import Workspace
from control_plane.storage.records.nodes import Node
from trunkline.runtime.clock import Clock

TOKEN_SECONDS = 60
CANCEL_BODY = b"{}"
LARGEST_ANSWER_BYTES = 256 * 1024
CONTENT_READ_SECONDS = 10.0


# How much longer than others a call may take that brings input: the agent waits for room for it.
INPUT_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class InputPart:
    """A part of a command's standard input: where it belongs, and whether it is the last."""

    content: bytes
    offset: int
    complete: bool


@dataclass(frozen=True, slots=True)
class NodeAddress:
    """A node and the workspace that it is in."""

    workspace: Workspace
    node: Node


class NodeCommands:
    """Speaks to agents; nothing is repeated or remembered here."""

    def __init__(
        self, *, reach: NodeReach, issuance: Issuance, name_suffix: str, clock: Clock, timeout_seconds: float
    ) -> None:
        self._reach = reach
        self._issuance = issuance
        self._name_suffix = name_suffix
        self._clock = clock
        self._timeout_seconds = timeout_seconds
        self._subject = str(control_plane_id(issuance.trust_domain))
        self._reading = ReadingTokens(self._issue, lambda: issuance.signing_key_id, clock)

    def accepted_until_ms(self) -> int:
        """Return until when a node could still accept a submit that is sent now."""
        return int((self._clock.now() + self._timeout_seconds + TOKEN_SECONDS + LEEWAY_SECONDS) * 1000)

    async def submit(
        self, address: NodeAddress, command_id: str, spec: dict[str, object], *, deliver_before_ms: int
    ) -> NodeAnswer:
        """Submit a command; its id is the idempotency key, its token is good for this body under this id only.

        No submit of it is begun at `deliver_before_ms` or later: so long, and a token's life more, may a node meet it.
        """
        body = json.dumps(spec, sort_keys=True, separators=(",", ":")).encode()
        binding = Binding.of_body(body, command_id, self._submit_until(deliver_before_ms))
        token = self._bound_token(address, binding)
        return await self._call(address, "PUT", _path(command_id), token, "submit", body)

    async def ask(self, address: NodeAddress, command_id: str) -> NodeAnswer:
        """Ask how a command is."""
        token = self._reading_token(address, COMMAND_READ)
        return await self._call(address, "GET", _path(command_id), token, "ask")

    async def watch(self, address: NodeAddress, command_id: str, *, seen: int, wait_seconds: int) -> NodeAnswer:
        """Ask how a command is, once its revision is another than `seen`, or so many seconds have passed."""
        path = f"{_path(command_id)}?{urlencode({'wait_seconds': wait_seconds, 'seen': seen})}"
        timeout_seconds = self._timeout_seconds + wait_seconds
        token = self._reading_token(address, COMMAND_READ)
        return await self._call(address, "GET", path, token, "watch", timeout_seconds=timeout_seconds)

    async def cancel(self, address: NodeAddress, command_id: str) -> NodeAnswer:
        """Ask for a command's end; the token is good for nothing else, and so not for a submit."""
        token = self._bound_token(address, Binding.of_body(CANCEL_BODY, command_id))
        return await self._call(address, "POST", f"{_path(command_id)}/cancel", token, "cancel", CANCEL_BODY)

    async def stdin(self, address: NodeAddress, command_id: str, part: InputPart) -> NodeAnswer:
        """Bring a part of a command's standard input; the token is good for this part at this place only."""
        binding = Binding.of_stdin(part.content, command_id, part.offset, complete=part.complete)
        query = urlencode({"offset": part.offset, "end": "true" if part.complete else "false"})
        return await self._call(
            address,
            "PUT",
            f"{_path(command_id)}/stdin?{query}",
            self._bound_token(address, binding),
            "stdin",
            part.content,
            timeout_seconds=self._timeout_seconds + INPUT_SECONDS,
            content_type="application/octet-stream",
        )

    async def output(
        self, address: NodeAddress, command_id: str, *, stream: str, offset: int, follow: bool
    ) -> NodeAnswer:
        """Open the output of a command from an offset on."""
        query = urlencode({"stream": stream, "offset": offset, "follow": "true" if follow else "false"})
        token = self._reading_token(address, COMMAND_READ)
        return await self._call(address, "GET", f"{_path(command_id)}/output?{query}", token, "output")

    async def times(self, address: NodeAddress, command_id: str, *, stream: str, offset: int, most: int) -> NodeAnswer:
        """Ask when a command wrote the bytes from an offset on."""
        query = urlencode({"stream": stream, "offset": offset, "limit": most})
        token = self._reading_token(address, COMMAND_READ)
        return await self._call(address, "GET", f"{_path(command_id)}/output/times?{query}", token, "times")

    async def health(self, address: NodeAddress, timeout_seconds: float) -> NodeAnswer:
        """Ask a node how it is."""
        token = self._reading_token(address, HEALTH_READ)
        return await self._call(address, "GET", "/v1/health", token, "health", timeout_seconds=timeout_seconds)

    async def policy(self, address: NodeAddress, timeout_seconds: float) -> NodeAnswer:
        """Ask what the node's owner allows."""
        token = self._reading_token(address, COMMAND_READ)
        return await self._call(address, "GET", "/v1/policy", token, "policy", timeout_seconds=timeout_seconds)

    def _submit_until(self, deliver_before_ms: int) -> int:
        """Return when the last token of a submit has expired, within what a token may say whatever the clocks did."""
        now = int(self._clock.now())
        last_token_at = max(math.ceil(deliver_before_ms / 1000), now)
        return min(last_token_at + TOKEN_SECONDS, now + LONGEST_SUBMIT_SECONDS)

    def _reading_token(self, address: NodeAddress, scope: str) -> str:
        return self._reading.token(address.workspace, address.node, scope)

    def _bound_token(self, address: NodeAddress, binding: Binding) -> str:
        """Return a token for the one request that the binding names."""
        return self._issue(address.workspace, address.node, COMMAND_SUBMIT, binding).text

    def _issue(self, workspace: Workspace, node: Node, scope: str, binding: Binding | None = None) -> IssuedToken:
        return self._issuance.call_token(
            workspace,
            node,
            subject=self._subject,
            scopes=[scope],
            lifetime_seconds=TOKEN_SECONDS,
            now=self._clock.now(),
            binding=binding,
        )

    async def _call(
        self,
        address: NodeAddress,
        method: str,
        path: str,
        token: str,
        purpose: str,
        body: bytes | None = None,
        *,
        timeout_seconds: float | None = None,
        content_type: str = "application/json",
    ) -> NodeAnswer:
        call = NodeCall(
            node_id=address.node.node_id,
            host=f"{address.node.node}.{address.workspace.workspace}.{self._name_suffix}",
            method=method,
            path=path,
            token=token,
            purpose=purpose,
            timeout_seconds=timeout_seconds or self._timeout_seconds,
            body=body,
            content_type=content_type,
        )
        return await self._reach.call(call)


def _path(command_id: str) -> str:
    return f"/v1/commands/{quote(command_id, safe='')}"
