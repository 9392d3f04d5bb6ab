"""All shells of this node: opened once each, found again by their callers, ended when the agent ends."""

import asyncio
import pwd
from collections.abc import Callable
from typing import Protocol

from certs.tokens import TokenClaims
from node_agent.commands.accounts import Account, NoAccount, default_user, find_account
from node_agent.commands.admission import refusal_of_metadata
from node_agent.commands.errors import CommandRefusal, CommandRefused, PolicyRule, RefusalReason
from node_agent.policy import Policy
from node_agent.policy_file import PolicySource
from node_agent.shells.causes import EndCause
from node_agent.shells.opening import Opening
from node_agent.shells.program import Program, StartFailed
from node_agent.shells.request import ShellRequest, plan_of
from node_agent.shells.session import AWAY_SECONDS, SessionBounds, SessionStream, ShellSession
from trunkline.runtime.clock import Clock
from trunkline.runtime.logs import Logger


class Starting:
    """A shell that is being started, whose caller's claims may be revoked meanwhile."""

    is_stream = False

    def __init__(self) -> None:
        self.revoked = False

    def cut(self) -> None:
        """It is to be ended as soon as there is something to end."""
        self.revoked = True


class Watch(Protocol):
    """Ends sessions whose claims are revoked."""

    def add(self, exchange: ShellSession | Starting, claims: TokenClaims) -> None:
        """Watch a session, or go on watching it on other claims."""
        ...

    def discard(self, exchange: ShellSession | Starting) -> None:
        """Watch it no more."""
        ...


class ShellMeter(Protocol):
    """Counts shells."""

    def shell_opened(self) -> None:
        """A shell was opened."""
        ...

    def shell_ended(self, cause: EndCause, *, input_bytes: int, output_bytes: int) -> None:
        """One has ended."""
        ...


class ShellReports(Protocol):
    """Is told of shells, so that the control plane hears of them."""

    def shell_opened(self, opening: Opening) -> None:
        """A shell was opened."""
        ...

    def shell_ended(self, opening: Opening, cause: EndCause, *, input_bytes: int, output_bytes: int) -> None:
        """One has ended."""
        ...


def _never() -> CommandRefusal | None:
    return None


class Shells:
    """The sessions of the node; everything is called on the event loop."""

    def __init__(
        self,
        policy: PolicySource,
        watch: Watch,
        meter: ShellMeter,
        reports: ShellReports,
        clock: Clock,
        log: Logger,
        *,
        away_seconds: float = AWAY_SECONDS,
        kept_from_metadata: Callable[[], frozenset[str]] = frozenset,
        unready: Callable[[], CommandRefusal | None] = _never,
    ) -> None:
        """Prepare the shells.

        `kept_from_metadata` says which users cannot reach the cloud's metadata service, and `unready` why the node
        takes neither commands nor shells yet, if it does not.
        """
        self._unready = unready
        self._kept_from_metadata = kept_from_metadata
        self._policy = policy
        self._watch = watch
        self._meter = meter
        self._reports = reports
        self._clock = clock
        self._log = log
        self.away_seconds = away_seconds
        self._sessions: dict[str, ShellSession] = {}
        self._opening: dict[str, asyncio.Task[ShellSession]] = {}
        self._running: set[ShellSession] = set()
        self._stopping = False

    @property
    def running(self) -> int:
        """How many shells run."""
        return len(self._running)

    async def open(self, shell_id: str, request: ShellRequest, claims: TokenClaims) -> tuple[ShellSession, bool]:
        """Open a shell, once: the answer is the session, and whether this call opened it.

        Raises:
            CommandRefused: the policy, too many at once, another request under the same id, or it cannot be started.
        """
        opening = self._opening.get(shell_id)
        if opening is not None:
            await asyncio.shield(opening)
        if shell_id in self._sessions:
            session = self.find(shell_id, claims.subject)
            if session.opening.fingerprint != request.fingerprint():
                raise CommandRefused(RefusalReason.OTHER_BODY, "the shell id was used before with another body")
            return session, False
        refusal = self._refusal(request, claims.subject)
        if refusal is not None:
            raise CommandRefused.of(refusal)
        opening = self._opening[shell_id] = asyncio.create_task(self._open(shell_id, request, claims))
        return await asyncio.shield(opening), True

    def find(self, shell_id: str, subject: str) -> ShellSession:
        """Return the session of this id that this caller has opened.

        Raises:
            CommandRefused: there is none; somebody else's is none.
        """
        session = self._sessions.get(shell_id)
        if session is None or session.opening.subject != subject:
            message = "there is no such shell on this node: it has ended, or the agent was started again"
            raise CommandRefused(RefusalReason.UNKNOWN, message)
        return session

    def attach(self, session: ShellSession, stream: SessionStream, claims: TokenClaims) -> None:
        """Go on with a session on a stream that was admitted on these claims."""
        self._watch.add(session, claims)
        session.attach(stream)

    async def stop(self) -> None:
        """Open none any more, hang all up, and wait until nothing is left of them."""
        self._stopping = True
        if self._opening:
            await asyncio.wait(self._opening.values())
        for session in self._running:
            session.end(EndCause.AGENT_STOPPED)
        if self._running:
            await asyncio.wait([session.gone for session in self._running])

    def session_ended(self, session: ShellSession, cause: EndCause) -> None:
        """Count and report it."""
        self._running.discard(session)
        sizes = {"input_bytes": session.input_bytes, "output_bytes": session.output_bytes}
        self._meter.shell_ended(cause, **sizes)
        self._reports.shell_ended(session.opening, cause, **sizes)
        self._log.info("shell.ended", shell_id=session.opening.shell_id, cause=cause.value, **sizes)

    def session_over(self, session: ShellSession) -> None:
        """Forget it."""
        self._watch.discard(session)
        self._sessions.pop(session.opening.shell_id, None)

    def _refusal(self, request: ShellRequest, subject: str) -> CommandRefusal | None:
        policy = self._policy.current
        if self._stopping:
            return CommandRefusal(RefusalReason.STOPPING, "the agent is stopping; try again once it is back")
        if not policy.allows_shells:
            message = "the node's owner does not allow shells"
            return CommandRefusal(RefusalReason.POLICY, message, PolicyRule.SHELL_ENABLED)
        if not policy.allows_shells_of(subject):
            message = "the node's owner does not allow this caller to open shells"
            return CommandRefusal(RefusalReason.POLICY, message, PolicyRule.SHELL_ALLOWED_SUBJECTS)
        user = request.user or default_user(policy.commands.run_as)
        return (
            _user_refusal(request, policy)
            or refusal_of_metadata(policy.commands, user, self._kept_from_metadata())
            or self._unready()
            or self._room_refusal(policy)
        )

    def _room_refusal(self, policy: Policy) -> CommandRefusal | None:
        most = policy.shell.max_concurrent
        if len(self._running) + len(self._opening) < most and len(self._sessions) < 2 * most:
            return None
        message = f"{most} shells are open on this node, and more are not allowed; try again later"
        return CommandRefusal(RefusalReason.TOO_MANY, message, PolicyRule.SHELL_MAX_CONCURRENT)

    async def _open(self, shell_id: str, request: ShellRequest, claims: TokenClaims) -> ShellSession:
        starting = Starting()
        self._watch.add(starting, claims)
        try:
            rules = self._policy.current
            account, program = await _start(shell_id, request, rules)
        finally:
            self._watch.discard(starting)
            del self._opening[shell_id]
        opening = Opening(
            shell_id=shell_id,
            subject=claims.subject,
            token_id=claims.token_id,
            fingerprint=request.fingerprint(),
            user=account.name,
            terminal=request.terminal,
            time=self._clock.now(),
        )
        bounds = SessionBounds(self.away_seconds, rules.shell.idle_seconds, rules.shell.max_duration_seconds)
        session = ShellSession(opening, program, bounds, self, asyncio.get_running_loop())
        self._sessions[shell_id] = session
        self._running.add(session)
        self._watch.add(session, claims)
        self._meter.shell_opened()
        self._reports.shell_opened(opening)
        self._log.info("shell.opened", shell_id=shell_id, subject=claims.subject, user=account.name)
        if starting.revoked:
            session.cut()
        return session


def _user_refusal(request: ShellRequest, policy: Policy) -> CommandRefusal | None:
    rules = policy.commands
    if request.user is None or request.user in (default_user(rules.run_as), *rules.allowed_users):
        return None
    message = f"the node's owner does not allow shells as {request.user!r}"
    return CommandRefusal(RefusalReason.POLICY, message, PolicyRule.ALLOWED_USERS)


async def _start(shell_id: str, request: ShellRequest, policy: Policy) -> tuple[Account, Program]:
    try:
        user = request.user or default_user(policy.commands.run_as)
        account, login_shell = await asyncio.to_thread(_account, user)
        plan = plan_of(request, account, login_shell, shell_id, policy.limits_of_shells)
        return account, await Program.start(account, plan, request.rows, request.columns)
    except (NoAccount, StartFailed) as error:
        raise CommandRefused(RefusalReason.CANNOT_START, str(error)) from None


def _account(name: str | None) -> tuple[Account, str]:
    account = find_account(name)
    return account, pwd.getpwuid(account.uid).pw_shell
