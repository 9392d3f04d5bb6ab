"""The keeper: asks the control plane for this node's secrets, checks what comes, and reports what became of it.

Theory of operation. It asks at the agent's start, when a notice or a command wants it to, and every few minutes. It
says which bundle it holds, and is handed another only if there is one. A bundle is taken if it opens with this node's
key, for this node, under its number, and the number is above every one that this state directory has ever taken: that
number is on the disk before the secrets are in force, so that a bundle of before cannot come back with a restart. The
secrets themselves are in memory only. Which of them are kept the owner's policy decides.

A bundle is sealed to the key that came with the node's newest certificate. Where the state directory was put back to
what it was before that (a snapshot, a backup), this node does not have the key, and knows of no later renewal: it
renews at once, and so has a newest key again. Two machines that share one identity would each take the other's key away
so, which is why it is done seldom.

What was taken, and which commands used what, is reported until the control plane has it.
"""

import asyncio
import contextlib
import random
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from certs.encoding import strict_json_object
from certs.errors import CertificateError, KeyFileError
from certs.keyfiles import read_secret, write_secret
from certs.secret_bundles import BundledSecret, open_bundle
from node_agent.identity.control_plane import NEVER_TAKEN, ControlPlane
from node_agent.identity.credentials import Credentials
from node_agent.identity.node_identity import NodeIdentity
from node_agent.identity.sealed_secrets import private_sealing_key, public_sealing_key
from node_agent.metrics import AgentMetrics
from node_agent.policy import Policy, SecretRules
from node_agent.policy_file import PolicySource
from node_agent.secrets.held import HeldSecret, HeldSecrets
from node_agent.secrets.uses import UseLog
from trunkline.client.control_plane_answers import ControlPlaneRefused, ControlPlaneUnreachable
from trunkline.runtime.backoff import Backoff
from trunkline.runtime.clock import Clock
from trunkline.runtime.logs import Logger
from trunkline.runtime.threads import in_thread

FETCH_PATH = "/api/2.0/nodes/self/secrets"
REPORT_PATH = "/api/2.0/nodes/self/secrets/report"
SEQUENCE_FILE = "secrets-sequence.json"
POLL_SECONDS = 300.0
BACKOFF_CAP_SECONDS = 60.0
REPORT_SECONDS = 0.5
SHORTEST_INTERVAL_SECONDS = 0.1
"""Between two questions, whoever asks for them: notices come through a relay, which could send any number."""
SHORTEST_RENEWAL_SECONDS = 3600.0
"""Between two renewals for want of the key on record."""
CONFLICT_STATUS = 409
"""The answer to a sealing key that is not the one on record."""

Standing = tuple[int, dict[str, int], bool]


class SecretKeeper:
    """Keeps `HeldSecrets` as the control plane says they are."""

    def __init__(
        self,
        *,
        control_plane: ControlPlane,
        credentials: Credentials,
        held: HeldSecrets,
        uses: UseLog,
        policy: PolicySource,
        directory: Path,
        renew_certificate: Callable[[], None],
        metrics: AgentMetrics,
        clock: Clock,
        rng: random.Random,
        log: Logger,
    ) -> None:
        """Prepare.

        Args:
            control_plane: what is asked.
            credentials: who asks, and the key that secrets are sealed to.
            held: what is kept up to date.
            uses: what is reported.
            policy: what the owner lets in.
            directory: where the highest number is kept.
            renew_certificate: has the certificate renewed soon, and the sealing key with it.
            metrics: counts.
            clock: the time.
            rng: randomness of the pauses.
            log: the log.
        """
        self._control_plane = control_plane
        self._credentials = credentials
        self._held = held
        self._uses = uses
        self._policy = policy
        self._path = directory / SEQUENCE_FILE
        self._metrics = metrics
        self._clock = clock
        self._rng = rng
        self._log = log
        self._reporting = asyncio.Lock()
        self._used = asyncio.Event()
        self._highest = _read_sequence(self._path, log)
        self._current = 0
        self._reported: Standing = (0, {}, True)
        self._renew_certificate = renew_certificate
        self._may_renew_at = clock.monotonic()
        self._lacks_key = False
        credentials.subscribe(self._identity_changed)
        policy.subscribe(self._policy_changed)
        uses.subscribe(self._used.set)

    async def run(self) -> None:
        """Ask and report until cancelled."""
        async with asyncio.TaskGroup() as work:
            work.create_task(self._keep_asking(), name="trunkline-secrets-ask")
            work.create_task(self._keep_reporting(), name="trunkline-secrets-report")

    async def _keep_asking(self) -> None:
        backoff = Backoff(self._rng, cap_seconds=BACKOFF_CAP_SECONDS)
        while True:
            self._held.asked.clear()
            pause_seconds = POLL_SECONDS * self._rng.uniform(0.8, 1.2)
            if await self._attempt(self.once):
                backoff.reset()
            else:
                pause_seconds = backoff.next_delay_seconds(self._clock.monotonic(), at_least_seconds=1.0)
            await asyncio.sleep(SHORTEST_INTERVAL_SECONDS)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause_seconds):
                    await self._held.asked.wait()

    async def _keep_reporting(self) -> None:
        """Report uses soon after they happened, those of a moment together."""
        backoff = Backoff(self._rng, cap_seconds=BACKOFF_CAP_SECONDS)
        while True:
            await self._used.wait()
            await asyncio.sleep(REPORT_SECONDS)
            self._used.clear()
            while not await self._attempt(lambda: self._report(self._credentials.current)):  # noqa: ASYNC110 - a retry
                await asyncio.sleep(backoff.next_delay_seconds(self._clock.monotonic(), at_least_seconds=1.0))
            backoff.reset()

    async def _attempt(self, work: Callable[[], Awaitable[None]]) -> bool:
        try:
            await work()
        except (ControlPlaneRefused, ControlPlaneUnreachable, CertificateError) as error:
            refused = isinstance(error, CertificateError)
            self._metrics.secret_fetches.labels("refused" if refused else "failed").inc()
            self._log.warning("secrets.not_fetched", reason=str(error))
            return False
        return True

    async def once(self) -> None:
        """Ask for the secrets, take them, and report.

        Raises:
            ControlPlaneRefused, ControlPlaneUnreachable: no answer, or a refusal.
            CertificateError: the bundle is refused; what was held stays.
        """
        node = self._credentials.current
        if not node.is_valid(self._clock.now()):
            raise ControlPlaneUnreachable("the node's certificate has expired")
        if self._policy.current.secrets.enabled:
            await self._fetch(node)
        else:
            self._held.replace(None, {})
        await self._report(node)

    async def _fetch(self, node: NodeIdentity) -> None:
        document: dict[str, Any] = {"sealing_key": public_sealing_key(node.sealing_key)}
        if self._held.sequence is not None:
            document["held_sequence"] = self._held.sequence
        answer = await self._asked(node, document)
        sequence, sealed = answer.get("sequence"), answer.get("sealed")
        if type(sequence) is not int or not isinstance(sealed, str | None):
            raise ControlPlaneUnreachable("the control plane's answer holds no bundle of secrets")
        if sealed is None:
            self._current = sequence
            self._metrics.secret_fetches.labels("unchanged").inc()
            return
        secrets = self._opened(node, sequence, sealed)
        await self._remember(sequence)
        self._current = sequence
        self._take(sequence, secrets)

    async def _asked(self, node: NodeIdentity, document: dict[str, Any]) -> dict[str, Any]:
        try:
            return await self._control_plane.call(FETCH_PATH, document, identity=node.identity)
        except ControlPlaneRefused as error:
            if error.status == CONFLICT_STATUS and node.confirmed:
                self._renew()
            raise

    def _renew(self) -> None:
        """Get a sealing key that is on record: the one that is, is not here, though this one was confirmed once."""
        self._lacks_key = True
        if self._clock.monotonic() >= self._may_renew_at:
            self._may_renew_at = self._clock.monotonic() + SHORTEST_RENEWAL_SECONDS
            self._log.error(
                "secrets.key_outdated",
                reason="the control plane knows of a later certificate of this node",
                consequence="it is renewed now",
                advice="if the machine was not put back to an earlier state, another one uses its identity: find it",
            )
            self._renew_certificate()

    def _identity_changed(self, before: NodeIdentity, node: NodeIdentity) -> None:
        """Ask at once when the key on record is one that is here again."""
        if self._lacks_key and node.confirmed:
            self._lacks_key = False
            self._held.ask()

    def _opened(self, node: NodeIdentity, sequence: int, sealed: str) -> list[BundledSecret]:
        if sequence <= self._highest:
            raise CertificateError(f"the bundle {sequence} is refused: {self._highest} has been taken already")
        return open_bundle(sealed, private_sealing_key(node.sealing_key), node.spiffe_id, sequence)

    def _take(self, sequence: int, secrets: list[BundledSecret]) -> None:
        rules = self._policy.current.secrets
        kept = {
            f"{one.scope}/{one.key}": HeldSecret(one.version, one.value)
            for one in secrets
            if rules.allows_scope(one.scope)
        }
        self._held.replace(sequence, kept)
        self._metrics.secret_fetches.labels("taken").inc()
        self._metrics.secrets_held.set(len(kept))
        self._log.info("secrets.taken", sequence=sequence, count=len(kept), refused=len(secrets) - len(kept))

    async def _report(self, node: NodeIdentity) -> None:
        """Say what is held, if that is new, and send the uses that wait."""
        async with self._reporting:
            while len(self._uses) or self._standing() != self._reported:
                sequence, held, accepts = standing = self._standing()
                stated = {"sequence": sequence, "held": held, "accepts": accepts}
                document = stated | self._uses.report().document()
                try:
                    await self._control_plane.call(REPORT_PATH, document, identity=node.identity)
                except ControlPlaneRefused as error:
                    if error.status not in NEVER_TAKEN:
                        raise
                    self._log.error("secrets.report_refused", reason=str(error))
                    self._uses.abandon()
                    self._reported = standing
                    return  # what it is that is not taken is not known: the next report says how many were lost
                self._uses.taken()
                self._reported = standing

    def _standing(self) -> Standing:
        return self._current, self._held.versions(), self._policy.current.secrets.enabled

    def _policy_changed(self, policy: Policy) -> None:
        """Drop what the owner no longer allows at once, and ask again, since more may be allowed now."""
        rules: SecretRules = policy.secrets
        self._held.drop_unless(rules.allows_scope)
        self._metrics.secrets_held.set(len(self._held))
        self._held.ask()

    async def _remember(self, sequence: int) -> None:
        self._highest = sequence
        try:
            await in_thread(write_secret, self._path, b'{"highest":%d}\n' % sequence)
        except KeyFileError as error:
            self._log.error(
                "secrets.sequence_not_stored",
                reason=str(error),
                consequence="after a restart, an older bundle would be taken",
            )


def _read_sequence(path: Path, log: Logger) -> int:
    """Return the highest number taken; a damaged file counts as none: the control plane's next is higher."""
    if not path.exists():
        return 0
    try:
        highest = strict_json_object(read_secret(path), max_depth=2)["highest"]
        return int(highest)
    except (ValueError, KeyError, TypeError, KeyFileError) as error:
        log.error("secrets.sequence_damaged", file=str(path), reason=str(error) or type(error).__name__)
        return 0
