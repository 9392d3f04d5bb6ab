"""What all connections and calls of the data path share: admission, limits, the reading of heads, and the counts."""

import asyncio
from collections.abc import Callable
from typing import Final, Protocol

from relay.admission.grants import Grant
from relay.admission.pacing import Pacing
from relay.bounds.deadlines import Deadlines
from relay.bounds.untaken import Untaken
from relay.doors.destinations import NodeNames
from relay.doors.door_counts import DoorCounts
from relay.doors.entry import Door
from relay.doors.forwarding import ForwardedRequest
from relay.doors.head_reader import HeadReader
from relay.metrics import RelayMetrics
from relay.settings import LimitsSettings
from relay.tallies import Tally
from relay.trust.credentials import Destination, Refusal
from relay.trust.uses import Cuttable, Uses
from trunkline.channel.limits import CreditBudget, RateBound
from trunkline.channel.outcomes import Outcome
from trunkline.runtime.logs import Logger

MAX_KNOWN_WORKSPACES: Final = 1024
LOG_BURST: Final = 100
LOG_LINES_PER_SECOND: Final = 10.0
# Of a request id: writing a number in hexadecimal for each call would cost as much as finding its node.
_LOW_DIGITS: Final = [b"%02x" % low for low in range(256)]


class CallAdmission(Protocol):
    """Decides on calls; see `relay.admission.streams`."""

    def admit(self, token: str | None, destination: Destination) -> Grant | Refusal:
        """Decide on one call, at once."""
        ...

    def is_control_planes(self, token: str | None) -> bool:
        """Whether a call with this token is the control plane's own."""
        ...

    def admit_again(self, grant: Grant) -> Grant | Refusal | None:
        """Decide on one more call like the one that was granted; None if it is for `admit` to decide."""
        ...


class FrontDoor:
    """The shared part of the data path; one for a relay."""

    __slots__ = (
        "_counts",
        "_id_block",
        "_id_prefix",
        "_log",
        "_log_bound",
        "_metrics",
        "_minted",
        "_time",
        "_uses",
        "_workspace_calls",
        "admission",
        "call_soon",
        "deadlines",
        "draining",
        "heads",
        "idle_seconds",
        "limits",
        "listener_seconds",
        "pacing",
        "ready",
        "received_bytes",
        "sent_bytes",
        "shedding",
        "untaken",
    )  # fmt: skip

    def __init__(
        self,
        *,
        loop: asyncio.AbstractEventLoop,
        admission: CallAdmission,
        uses: Uses,
        names: NodeNames,
        limits: LimitsSettings,
        metrics: RelayMetrics,
        deadlines: Deadlines,
        pacing: Pacing,
        budget: CreditBudget,
        id_prefix: str,
        ready: Callable[[], bool],
        log: Logger,
    ) -> None:
        """Wires the data path; `id_prefix` begins every request id, and should be fresh for each process.

        `ready` tells load balancers whether they are to send calls here; calls are taken whatever it says.
        """
        self.admission = admission
        self.call_soon: Callable[[Callable[[], None]], object] = loop.call_soon
        self.limits = limits
        # Read for each call, where an attribute of a model costs as much as a look-up.
        self.idle_seconds: float = limits.idle_seconds
        self.listener_seconds: float = limits.listener_seconds
        self.deadlines = deadlines
        self.pacing = pacing
        self.ready = ready
        self.draining = False
        self.shedding = False
        self.untaken = Untaken(budget)
        self.sent_bytes: Tally = metrics.bytes.of("to_node")
        self.received_bytes: Tally = metrics.bytes.of("to_sender")
        self._time: Callable[[], float] = loop.time
        self._uses = uses
        self._metrics = metrics
        self._log = log
        self._log_bound = RateBound(LOG_BURST, LOG_LINES_PER_SECOND, loop.time())
        self._id_prefix = id_prefix.encode("ascii")
        self._id_block = self._id_prefix + b"-"
        self._minted = 0
        self._counts = {door: DoorCounts(metrics, door) for door in Door}
        self.heads = HeadReader(names, self._counts)
        self._workspace_calls: dict[str, Tally] = {}

    # Calls.

    def decide(self, request: ForwardedRequest) -> Grant | Refusal:
        """Asks admission; a relay that drains takes no new calls, and one that is short of memory the control plane's.

        Else whoever fills a relay's memory would make its nodes `offline`, and keep cancels from them.
        """
        if self.draining:
            return Refusal(Outcome.DRAINING, "the relay is draining; call again")
        if self.shedding and not self.admission.is_control_planes(request.token):
            return Refusal(Outcome.OVERLOADED, "the relay is short of memory; call again")
        kin = request.kin
        holder = request if kin is None else kin
        grant = holder.grant
        decision = self.admission.admit_again(grant) if grant is not None else None
        if decision is None:
            decision = self.admission.admit(request.token, request.destination)
            holder.grant = decision if isinstance(decision, Grant) else None
        return decision

    def mint_request_id(self) -> bytes:
        """A request id of this process, as heads have it, in 7-bit characters that need no quoting."""
        minted = self._minted = self._minted + 1
        low = minted & 0xFF
        if not low:
            self._id_block = b"%b-%x" % (self._id_prefix, minted >> 8)
        return self._id_block + _LOW_DIGITS[low]

    def call_started(self, call: Cuttable, grant: Grant, counts: DoorCounts) -> float:
        """Counts an admitted call, and makes it one that a revocation finds; returns its start."""
        self._uses.begin(call, grant.credential)
        if grant.use is not None:
            grant.use.begin()
        counts.open.count += 1
        workspace = grant.destination.workspace
        tally = self._workspace_calls.get(workspace)
        if tally is None:
            tally = self._new_workspace(workspace)
        tally.count += 1
        return self._time()

    def call_ended(self, call: Cuttable, counts: DoorCounts, started_at: float) -> None:
        """Counts a call whose response, from the node, was complete."""
        self._uses.end(call)
        counts.open.count -= 1
        counts.forwarded.count += 1
        counts.seconds.observe(self._time() - started_at)

    def call_failed(self, call: Cuttable, door: Door, started_at: float, label: str) -> None:
        """Counts a call that ended otherwise; `label` is an outcome's, or SENDER_LOST."""
        self._uses.end(call)
        counts = self._counts[door]
        counts.open.count -= 1
        counts.seconds.observe(self._time() - started_at)
        self._metrics.calls.of(door.value, label).count += 1

    def refused(self, door: Door, outcome: Outcome) -> None:
        """Counts a call that never began."""
        self._metrics.calls.of(door.value, outcome.metric_label).count += 1

    def log_outcome(self, outcome: Outcome, message: str, request_id: str, door: Door) -> None:
        """Logs an answer of the relay's; a flood of them is thinned, the counts are not."""
        if self._log_bound.spend(self._time()):
            write = getattr(self._log, outcome.log_level)
            write("call.answered", outcome=outcome.code, reason=message, request_id=request_id, door=door.value)

    def deadline_passed(self, which: str) -> None:
        """Counts a connection or call that was ended by a deadline."""
        self._metrics.deadlines.of(which).count += 1

    def _new_workspace(self, workspace: str) -> Tally:
        """The tally of a workspace; names come from verified tokens, and the metrics bound how many are kept apart."""
        tally = self._metrics.workspace(workspace)
        if len(self._workspace_calls) >= MAX_KNOWN_WORKSPACES:
            self._workspace_calls.clear()
        self._workspace_calls[workspace] = tally
        return tally
