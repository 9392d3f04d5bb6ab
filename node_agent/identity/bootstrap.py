"""Bootstrap: a machine without an identity becomes a node.

Theory of operation. Each step is on the disk before the next is taken, so that an agent that is killed anywhere goes on
where it was:

1. The attempt: a fresh key, its signing request and a sealing key. Then the nonce, as soon as it is there. Asking again
   with the same nonce and request is answered the same for ten minutes, so a lost answer costs nothing.
2. The answer: the trust document, then the whole identity, as *successor*. An identity in force stays in force.
3. The confirmation, over mTLS with the new key. Then, once it is noted that a new node is to be initialised, the
   successor is put in force, and the attempt is removed.

A machine whose clock is wrong is told so before anything is made of it: what it was given would not be valid to it.
"""

import asyncio
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from certs.errors import CertificateError
from certs.evidence_nonce import evidence_nonce
from certs.predecessor import sign_predecessor
from node_agent.identity.attempts import Attempt, AttemptFile
from node_agent.identity.control_plane import ControlPlane
from node_agent.identity.evidence import EvidenceSource, EvidenceUnavailable
from node_agent.identity.node_identity import IdentityStore, NodeIdentity, identity_from_answer
from node_agent.identity.sealed_secrets import public_sealing_key
from trunkline.client.control_plane_answers import ClockSkewed, ControlPlaneRefused, ControlPlaneUnreachable
from trunkline.runtime.backoff import Backoff
from trunkline.runtime.clock import Clock
from trunkline.runtime.logs import Logger
from trunkline.runtime.threads import in_thread
from trunkline.version import __version__

CHALLENGE_PATH = "/api/2.0/bootstrap/challenge"
BOOTSTRAP_PATH = "/api/2.0/bootstrap"
CONFIRM_PATH = "/api/2.0/bootstrap/confirm"
ATTEMPT_FILE = "bootstrap.json"
# For so long the control plane answers the same question with the same answer.
ANSWER_SECONDS = 600.0
REFUSED_PAUSE_SECONDS = 60.0


class BootstrapRefused(Exception):  # noqa: N818 - an answer, not a mistake
    """The control plane does not take this machine, and asking again is of no use; the message says what to do."""


class Bootstrap:
    """Brings an identity into force, however long it takes."""

    def __init__(
        self,
        *,
        control_plane: ControlPlane,
        evidence: EvidenceSource,
        store: IdentityStore,
        directory: Path,
        take_trust: Callable[[str], None],
        note_new_node: Callable[[str], None],
        wishes: Mapping[str, str],
        backoff: Backoff,
        clock: Clock,
        log: Logger,
    ) -> None:
        self._control_plane = control_plane
        self._evidence = evidence
        self._store = store
        self._attempts = AttemptFile(directory / ATTEMPT_FILE, log)
        self._take_trust = take_trust
        self._note_new_node = note_new_node
        self._wishes = wishes
        self._backoff = backoff
        self._clock = clock
        self._log = log
        self._nonce_is_new = False

    async def run(self) -> NodeIdentity:
        """Return the node's new identity, in force.

        Raises:
            BootstrapRefused: it will not get one without an operator.
            CertificateError: the state directory cannot be read or written.
        """
        while True:
            try:
                node = await self.once()
            except ClockSkewed as error:
                await self._pause(str(error), at_least_seconds=REFUSED_PAUSE_SECONDS / 2)
            except ControlPlaneUnreachable as error:
                await self._pause(str(error))
            except EvidenceUnavailable as error:
                await self._pause(str(error), at_least_seconds=REFUSED_PAUSE_SECONDS if error.permanent else 0.0)
            except ControlPlaneRefused as error:
                waits = error.permanent and self._nonce_is_new
                at_least = REFUSED_PAUSE_SECONDS if waits else error.retry_after_seconds
                await self._pause(str(error), at_least_seconds=at_least)
            else:
                self._log.info("bootstrap.done", node_id=node.node_id, node=node.node, workspace=node.workspace)
                return node

    async def once(self) -> NodeIdentity:
        """Make one attempt, or the rest of one.

        Raises:
            ControlPlaneUnreachable, EvidenceUnavailable: it may be tried again.
            ControlPlaneRefused: it was refused, perhaps for good.
            BootstrapRefused, CertificateError: as `run`.
        """
        node = await in_thread(self._store.load_successor)
        if node is None or not node.is_valid(self._clock.now()):
            node = await self._obtain()
        return await self._confirm(node)

    async def _obtain(self) -> NodeIdentity:
        attempt = await in_thread(lambda: self._attempts.load() or self._attempts.begin())
        nonce = await self._ensure_nonce(attempt)
        signed_nonce = evidence_nonce(nonce, attempt.csr)
        document: dict[str, Any] = {
            "evidence": await self._evidence.collect(signed_nonce),
            "nonce": nonce,
            "csr": attempt.csr,
            "sealing_key": public_sealing_key(attempt.sealing_key),
            "agent_version": __version__,
            **self._wishes,
            **await self._word_of_predecessor(signed_nonce),
        }
        try:
            answer = await self._control_plane.call(BOOTSTRAP_PATH, document)
        except ControlPlaneRefused as error:
            await self._judge(error, attempt)
            raise
        return await self._take(answer, attempt)

    async def _take(self, answer: dict[str, Any], attempt: Attempt) -> NodeIdentity:
        try:
            node = identity_from_answer(answer, attempt.key, attempt.sealing_key)
            self._take_trust(str(answer.get("trust_document", "")))
        except CertificateError as error:
            raise ControlPlaneUnreachable(f"the control plane's answer is unusable: {error}") from None
        await in_thread(self._store.save_successor, node)
        return node

    async def _confirm(self, node: NodeIdentity) -> NodeIdentity:
        try:
            await self._control_plane.call(CONFIRM_PATH, {}, identity=node.identity)
        except ControlPlaneRefused as error:
            self._nonce_is_new = False
            if error.permanent:
                await in_thread(self._drop)
            raise
        settled = node.settled()
        await in_thread(self._put_in_force, settled)
        return settled

    def _put_in_force(self, node: NodeIdentity) -> None:
        self._note_new_node(node.node_id)
        self._store.save(node)
        self._drop()

    def _drop(self) -> None:
        self._store.drop_successor()
        self._attempts.drop()

    async def _word_of_predecessor(self, nonce: str) -> dict[str, str]:
        """Show that this is the instance that was a node before, if it was one."""
        before = await in_thread(self._store.load)
        return {} if before is None else {"predecessor": sign_predecessor(before.identity, nonce)}

    async def _ensure_nonce(self, attempt: Attempt) -> str:
        now = self._clock.now()
        self._nonce_is_new = False
        if attempt.nonce is not None and 0 <= now - attempt.nonce_at < ANSWER_SECONDS:
            return attempt.nonce
        answer = await self._control_plane.call(CHALLENGE_PATH, {})
        nonce = answer.get("nonce")
        if not isinstance(nonce, str) or not nonce:
            raise ControlPlaneUnreachable("the control plane gave no nonce")
        self._control_plane.require_clock()
        self._nonce_is_new = True
        attempt.nonce, attempt.nonce_at = nonce, now
        await in_thread(self._attempts.save, attempt)
        return nonce

    async def _judge(self, error: ControlPlaneRefused, attempt: Attempt) -> None:
        """Take the nonce away, which may be what is refused; and give up where the evidence can only be it."""
        if not error.permanent:
            return
        if self._nonce_is_new and self._evidence.single_use:
            raise BootstrapRefused(f"the control plane does not admit this node: {error}")
        attempt.nonce = None
        await in_thread(self._attempts.save, attempt)

    async def _pause(self, reason: str, *, at_least_seconds: float = 0.0) -> None:
        delay = self._backoff.next_delay_seconds(self._clock.monotonic(), at_least_seconds=at_least_seconds)
        self._log.warning("bootstrap.failed", reason=reason, retry_seconds=round(delay, 1))
        await asyncio.sleep(delay)
