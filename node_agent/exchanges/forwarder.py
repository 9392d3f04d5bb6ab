"""Reaching services on the node's loopback: which ports are open to whom, and the connections to them."""

import asyncio
from dataclasses import dataclass

from node_agent.exchanges.callers import Caller
from node_agent.exchanges.deadlines import Deadlines
from node_agent.exchanges.forwarding import ForwardedExchange, ServiceConnection
from node_agent.exchanges.refusing import Unwanted
from node_agent.exchanges.watch import CallerWatch
from node_agent.metrics import AgentMetrics
from node_agent.policy import PortRules
from node_agent.policy_file import PolicySource
from trunkline.channel.closing import Patience
from trunkline.channel.heads import RequestHead
from trunkline.channel.link import LinkStream


@dataclass(frozen=True, slots=True)
class PortRefusal:
    """A port is not open to the caller."""

    status: int
    error_code: str
    message: str


class Forwarder:
    """Opens allowed ports to callers, and keeps count of what is open."""

    def __init__(
        self,
        policy: PolicySource,
        *,
        own_ports: frozenset[int],
        connect_seconds: float,
        stall_seconds: float,
        max_forwarded: int,
        lingering: Deadlines[LinkStream],
        metrics: AgentMetrics,
        watch: CallerWatch,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        """Prepare a forwarder.

        Args:
            policy: says which ports are open.
            own_ports: of the agent itself, never open whatever the policy says.
            connect_seconds: how long a service may take to accept.
            stall_seconds: how long bytes may wait for either side before the exchange is cut, and behind its end.
            max_forwarded: exchanges at once.
            lingering: takes streams that have been answered.
            metrics: counts.
            watch: cuts what is open when a token is revoked.
            loop: the event loop.
        """
        self.patience = Patience(stall_seconds, stall_seconds)
        self._policy = policy
        self._own_ports = own_ports
        self._connect_seconds = connect_seconds
        self._max_forwarded = max_forwarded
        self._lingering = lingering
        self._watch = watch
        self._loop = loop
        self._stalls: Deadlines[ForwardedExchange] = Deadlines(stall_seconds, ForwardedExchange.cut, loop)
        self._open: set[ForwardedExchange] = set()
        self._connecting: set[asyncio.Task[None]] = set()
        self._to_service = metrics.forwarded_bytes.labels("to_service")
        self._from_service = metrics.forwarded_bytes.labels("from_service")

    def admit(self, caller: Caller, port: int) -> PortRules | PortRefusal:
        """Decide whether the caller may open the port: token, owner's policy and room must all say so."""
        if not caller.claims.scopes.allows_port(port):
            return PortRefusal(403, "PERMISSION_DENIED", f"the token does not allow port {port}")
        rules = self._policy.current.ports.get(port)
        if rules is None or port in self._own_ports:
            return PortRefusal(403, "PERMISSION_DENIED", f"the node's owner does not allow port {port}")
        if caller.through_workspace and not rules.shared:
            return PortRefusal(403, "PERMISSION_DENIED", f"the node's owner does not share port {port}")
        if len(self._open) >= self._max_forwarded:
            return PortRefusal(503, "TEMPORARILY_UNAVAILABLE", "the node has too many forwarded connections open")
        return rules

    def forward(
        self, stream: LinkStream, head: RequestHead, leftover: bytes, caller: Caller, port: int, rules: PortRules
    ) -> None:
        """Connect an admitted caller's stream to the service."""
        exchange = ForwardedExchange(stream, head, self)
        self._open.add(exchange)
        self._watch.add(exchange, caller.claims)
        stream.handler = exchange
        if leftover:
            exchange.data_received(leftover)
        task = self._loop.create_task(self._connect(exchange, rules.address, port))
        self._connecting.add(task)
        task.add_done_callback(self._connecting.discard)

    def close(self) -> None:
        """Cut everything."""
        for exchange in list(self._open):
            exchange.cut()
        for task in self._connecting:
            task.cancel()
        self._stalls.close()

    # What the exchanges tell

    def progressed(self, exchange: ForwardedExchange, *, waiting: bool) -> None:
        """Begin the deadline anew while something waits."""
        if waiting:
            self._stalls.add(exchange)
        else:
            self._stalls.discard(exchange)

    def passed(self, *, to_service: int = 0, from_service: int = 0) -> None:
        """Count bytes."""
        if to_service:
            self._to_service.inc(to_service)
        if from_service:
            self._from_service.inc(from_service)

    def ended(self, exchange: ForwardedExchange, stream: LinkStream, *, peer_ended: bool) -> None:
        """Forget an exchange; its stream may still bring something that nobody wants."""
        self._open.discard(exchange)
        self._watch.discard(exchange)
        self._stalls.discard(exchange)
        if not peer_ended and not stream.lost:
            stream.handler = Unwanted(stream, self._lingering)

    async def _connect(self, exchange: ForwardedExchange, address: str, port: int) -> None:
        try:
            async with asyncio.timeout(self._connect_seconds):
                await self._loop.create_connection(lambda: ServiceConnection(exchange), address, port)
        except TimeoutError:
            exchange.refuse(504, "SERVICE_TIMEOUT", f"port {port} of the node did not accept in time")
        except OSError as error:
            reason = (error.strerror or "it cannot be reached").lower()
            exchange.refuse(502, "SERVICE_UNREACHABLE", f"port {port} of the node: {reason}")
