"""Succession: leaf, listen token and sealing key are renewed together, and no crash and no lost answer can undo a node.

Theory of operation. Each step is on the disk before the next is taken:

1. The request: new key, signing request, new sealing key. Asking again with it is answered the same.
2. The successor: what was answered, whole, in the second slot. The identity in force stays in force.
3. The proof: a link to a relay, made with the successor. As long as no relay takes it, nothing has changed.
4. The commit: the successor takes the first slot, by a rename. Only now is the old key gone; the old sealing key stays.
5. The confirmation, over mTLS with the new key: the control plane seals to the new sealing key from then on. Only when
   that is known is the old sealing key let go, so that nothing that was sealed meanwhile is lost.

The control plane revokes nothing at a renewal: the old leaf is good until it ends, so whichever slot a crash leaves in
force is one that works.
"""

from collections.abc import Awaitable, Callable
from enum import Enum, auto
from pathlib import Path
from typing import Any

from certs.chains import verify_chain
from certs.errors import CertificateError
from certs.lifespan import EARLIEST_RENEWAL
from certs.succession import root_is_gone
from node_agent.identity.attempts import Attempt, AttemptFile
from node_agent.identity.control_plane import ControlPlane
from node_agent.identity.node_identity import IdentityStore, NodeIdentity
from node_agent.identity.sealed_secrets import public_sealing_key
from node_agent.identity.trust_in_force import TrustInForce
from trunkline.client.control_plane_answers import ControlPlaneRefused
from trunkline.runtime.clock import Clock
from trunkline.runtime.logs import Logger
from trunkline.runtime.threads import in_thread

RENEW_PATH = "/api/2.0/nodes/self/renew"
CONFIRM_PATH = "/api/2.0/bootstrap/confirm"
ATTEMPT_FILE = "renewal.json"

Prove = Callable[[NodeIdentity], Awaitable[bool]]
"""Makes a link with an identity that is not in force yet; tells whether a relay took it."""


class Step(Enum):
    """What has just been done; a test may stop the process there."""

    REQUESTED = auto()
    ANSWERED = auto()
    STORED = auto()
    PROVED = auto()
    COMMITTED = auto()
    CONFIRMED = auto()
    SETTLED = auto()


def pass_by(step: Step) -> None:
    """Stop nowhere."""


class NotProved(Exception):  # noqa: N818 - a state of the world
    """No relay has taken the successor yet; the identity in force stays."""


class Succession:
    """Brings a successor into the second slot, and from there into force."""

    def __init__(
        self,
        *,
        control_plane: ControlPlane,
        store: IdentityStore,
        trust: TrustInForce,
        directory: Path,
        clock: Clock,
        log: Logger,
        passed: Callable[[Step], None] = pass_by,
    ) -> None:
        """Prepare; `passed` is told of each step once it is done."""
        self._control_plane = control_plane
        self._store = store
        self._trust = trust
        self._attempts = AttemptFile(directory / ATTEMPT_FILE, log)
        self._clock = clock
        self._log = log
        self._passed = passed

    def waiting(self, node: NodeIdentity) -> NodeIdentity | None:
        """Return the successor in the second slot, unless it is of no use: damaged, of another node, too old, or left.

        One is left where a rotation has ended the authority or the token key that it stands on: no relay would take it.
        That of another node came of a bootstrap, which knows what to do with it. One of the future, which clocks that
        were ahead have made, no relay would take either: it is passed over, and another asked for in its place. It
        blocks on the disk.

        Raises:
            OSError: one that is of no use cannot be removed.
        """
        try:
            heir = self._store.load_successor()
        except CertificateError as error:
            self._log.warning("identity.successor_damaged", reason=str(error), consequence="it is asked for anew")
            self._store.drop_successor()
            return None
        if heir is None or heir.spiffe_id != node.spiffe_id or not heir.lifespan.has_begun(self._clock.now()):
            return None
        if heir.identity.serial == node.identity.serial or heir.lifespan.is_overdue(self._clock.now()):
            self._store.drop_successor()
            return None
        if self._is_left(heir):
            self._log.warning(
                "identity.successor_left", serial=heir.identity.serial, consequence="it is asked for anew"
            )
            self._store.drop_successor()
            return None
        return heir

    def _is_left(self, heir: NodeIdentity) -> bool:
        document, key_id = self._trust.store.current, heir.listen_token_key
        if document is None:
            return False
        knows_key = key_id is None or any(key.key_id == key_id for key in document.token_keys)
        return root_is_gone(heir.identity.chain, document) or not knows_key

    async def attempt(self, node: NodeIdentity) -> Attempt:
        """Return the request under way, or begin one.

        Raises:
            CertificateError: it cannot be stored.
        """
        attempt = await in_thread(self._begun, node)
        self._passed(Step.REQUESTED)
        return attempt

    def _begun(self, node: NodeIdentity) -> Attempt:
        attempt = self._attempts.load()
        return self._attempts.begin() if attempt is None or attempt.made(node.identity) else attempt

    async def obtain(self, node: NodeIdentity) -> NodeIdentity:
        """Ask for a successor, and keep it in the second slot.

        Raises:
            ControlPlaneRefused, ControlPlaneUnreachable: there is none now.
            CertificateError, OSError: the answer is of no use, or the file system refuses.
        """
        attempt = await self.attempt(node)
        document = {"csr": attempt.csr, "sealing_key": public_sealing_key(attempt.sealing_key)}
        try:
            answer = await self._control_plane.call(RENEW_PATH, document, identity=node.identity)
        except ControlPlaneRefused as error:
            if error.is_about_the_request:
                await in_thread(self._attempts.drop)
            raise
        return await self.keep(node, attempt, answer)

    async def keep(self, node: NodeIdentity, attempt: Attempt, answer: dict[str, Any]) -> NodeIdentity:
        """Keep what was answered in the second slot.

        Raises:
            ClockSkewed: it is of no use since this machine's clock is wrong.
            CertificateError, OSError: it is of no use, or the file system refuses.
        """
        self._passed(Step.ANSWERED)
        try:
            heir = self._read(node, attempt, answer)
        except CertificateError:
            self._control_plane.require_clock()
            raise
        if self._clock.now() >= heir.lifespan.at(EARLIEST_RENEWAL):
            self._control_plane.require_clock()
            await in_thread(self._attempts.drop)
            raise CertificateError("the control plane's answer is to a request of long ago: a new one is made")
        await in_thread(self._store.save_successor, heir)
        self._passed(Step.STORED)
        return heir

    def _read(self, node: NodeIdentity, attempt: Attempt, answer: dict[str, Any]) -> NodeIdentity:
        late = not node.is_valid(self._clock.now())
        heir = node.succeeded(answer, attempt.key, attempt.sealing_key, late=late)
        self._trust.offer(answer.get("trust_document"))
        verify_chain(heir.identity.chain, self._trust.store.keyring.roots, self._clock.now())
        if self._is_left(heir):
            raise CertificateError("the control plane's answer stands on what a rotation has ended")
        return heir

    async def prove(self, heir: NodeIdentity, make_link: Prove) -> None:
        """Have a relay take the successor.

        Raises:
            NotProved: none did.
        """
        if not await make_link(heir):
            raise NotProved("no relay took the new certificate yet; the old one stays in use")
        self._passed(Step.PROVED)

    async def commit(self) -> None:
        """Put the successor in force on the disk, and forget the request that it came from.

        Raises:
            OSError: the file system refuses.
        """
        await in_thread(self._commit)
        self._passed(Step.COMMITTED)

    def _commit(self) -> None:
        self._store.commit()
        self._attempts.drop()

    async def confirm(self, node: NodeIdentity) -> NodeIdentity:
        """Tell the control plane that the node holds its key; return the identity, settled and stored.

        Raises:
            ControlPlaneRefused, ControlPlaneUnreachable: it is to be told again.
            CertificateError: the file system refuses.
        """
        await self._control_plane.call(CONFIRM_PATH, {}, identity=node.identity)
        self._passed(Step.CONFIRMED)
        settled = node.settled()
        await in_thread(self._settle, settled)
        self._passed(Step.SETTLED)
        return settled

    def _settle(self, settled: NodeIdentity) -> None:
        self._store.save(settled)
        self._attempts.drop()
