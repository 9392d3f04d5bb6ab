"""Rotations: taking steps, one at a time, and what follows from each in this process.

Order of a step. New keys are on the disk, synced, before the transaction. The transaction writes what the step changes
(`control_plane.rotation.steps`). After it the process takes up what the database says: it issues with the signer in
force, presents a certificate of it, and publishes. Keys that have ended are destroyed last. A process that is killed
anywhere begins with the phase in the database, which is always one of the table's, and does again what comes after
the transaction.
"""

import asyncio
import errno

from certs.errors import CertificateError, TrustError
from control_plane.errors import ApiError, ErrorCode, conflict, invalid
from control_plane.identity.own_identity import OwnIdentity
from control_plane.identity.trust_publisher import TrustPublisher
from control_plane.rotation.gauges import RotationGauges
from control_plane.rotation.progress import Progress, Watch
from control_plane.rotation.steps import Asked, revoke_key, take_step, transition_for
from control_plane.settings import ControlPlaneSettings
from control_plane.signing.in_force import SignersInForce, write_roots
from control_plane.signing.key_stores import KeyStores
from control_plane.signing.making import Made, make_successor, make_token_key
from control_plane.signing.phases import Phase, SignerKind, Step
from control_plane.signing.seats import read_seats
from control_plane.storage import signers
from control_plane.storage.audit import Actor
from control_plane.storage.database import Database
from control_plane.storage.errors import StorageError
from trunkline.runtime.clock import Clock
from trunkline.runtime.logs import Logger
from trunkline.runtime.threads import in_thread

LOOK_SECONDS = 1.0
LOOKS_A_TELLING = 10


class Rotations:
    """Takes the steps of both rotations."""

    def __init__(
        self,
        *,
        database: Database,
        settings: ControlPlaneSettings,
        signers_in_force: SignersInForce,
        stores: KeyStores,
        own: OwnIdentity,
        trust: TrustPublisher,
        watch: Watch,
        gauges: RotationGauges,
        clock: Clock,
        log: Logger,
    ) -> None:
        self._database = database
        self._settings = settings
        self._signers = signers_in_force
        self._stores = stores
        self._own = own
        self._trust = trust
        self._watch = watch
        self._gauges = gauges
        self._clock = clock
        self._log = log
        self._stepping = asyncio.Lock()

    async def begin(self, silent_seconds: float) -> None:
        """Begin so long, by the wall clock, after anything was recorded last; before any step is taken.

        Raises:
            StorageError: the database cannot be read.
        """
        await self._watch.begin(self._clock.now(), silent_seconds)

    async def keep(self) -> None:
        """Look every second whether the signers, or what is revoked, have changed, which another process can have done.

        Raises:
            CertificateError: signers are in force whose keys are not here: this process must not go on.
        """
        looks = 0
        while True:
            try:
                await self._look(looks)
                looks += 1
            except StorageError as error:
                self._log.error("signers.not_read", reason=str(error))
            except TrustError as error:
                self._log.error("trust.not_published", reason=str(error), consequence="revocations have no effect")
            await asyncio.sleep(LOOK_SECONDS)

    async def _look(self, looks: int) -> None:
        async with self._stepping:
            if not looks:
                await self._destroy_ended()
            await self._take_up()
            await self._trust.look()
        if looks % LOOKS_A_TELLING == 1:
            await self._tell()

    async def progress(self, *kinds: SignerKind) -> list[Progress]:
        """Return where these rotations stand, in this order."""
        return await self._watch.progress(kinds, self._clock.now())

    async def take(self, asked: Asked) -> None:
        """Take a step; one that was taken just so already changes nothing.

        Raises:
            ApiError: RESOURCE_CONFLICT: the phase has no such step, somebody else took one, or the gate is shut.
        """
        if asked.force and not asked.reason.strip():
            raise invalid("reason", "say why the gate is to be ignored")
        async with self._stepping:
            await self._take_up()
            made = await self._make(asked)
            try:
                taken = await self._write(asked, made)
            except ApiError:
                await self._discard(asked.kind, made)
                raise
            if taken:
                self._log.info("rotation.step", signer=asked.kind.value, step=asked.step.value, forced=asked.force)
            await self._follow()

    async def revoke_key(self, key_id: str, reason: str, actor: Actor) -> bool:
        """End a token key at once, whatever stands on it; if it signed, another signs from now on.

        Raises:
            ApiError: somebody else took a step.

        Returns:
            Whether there is such a key.
        """
        async with self._database.read() as session:
            known = await signers.find(session, key_id)
        if known is None or known.kind != SignerKind.SIGNING_KEY.value:
            return False
        async with self._stepping:
            await self._take_up()
            trusted = [signer.signer_id for signer in self._signers.seats.signing_key.trusted]
            made = await asyncio.to_thread(make_token_key, self._stores) if trusted == [key_id] else None
            now = self._clock.now()
            async with self._database.write() as session:
                seats = (await read_seats(session, now)).signing_key
                if await revoke_key(session, seats, key_id, made, reason, actor, now):
                    self._log.warning("signing_key.revoked", signer_id=key_id)
            await self._follow()
        return True

    async def follow(self) -> None:
        """Take up what something other than a step has changed, publish it, and destroy the keys that have ended."""
        async with self._stepping:
            await self._follow()

    async def _write(self, asked: Asked, made: Made | None) -> bool:
        now = self._clock.now()
        async with self._database.write() as session:
            seats = (await read_seats(session, now)).of(asked.kind)
            transition = transition_for(asked, seats)
            if transition is None:
                return False
            if asked.step is Step.PREPARE and made is None:
                raise conflict("the rotation went on meanwhile; look again, then decide")
            verdict = await self._watch.judge(session, transition.gate, seats, now)
            await take_step(session, seats, asked, transition, made, verdict, now)
        return True

    async def _make(self, asked: Asked) -> Made | None:
        """Make the candidate's keys, if this step needs them; off the loop, since disks and modules may be slow."""
        seats = self._signers.seats.of(asked.kind)
        if asked.step is not Step.PREPARE or seats.phase is not Phase.STEADY:
            return None
        try:
            if asked.kind is SignerKind.SIGNING_KEY:
                return await asyncio.to_thread(make_token_key, self._stores)
            trust_domain, now = self._settings.identity.trust_domain, self._clock.now()
            return await asyncio.to_thread(make_successor, self._stores, seats.incumbent, trust_domain, now)
        except CertificateError as error:
            raise ApiError(_code_for(error), str(error)) from None

    async def _discard(self, kind: SignerKind, made: Made | None) -> None:
        """Destroy keys that certainly no row names: the transaction was refused before it was committed."""
        for name in made.key_names.values() if made is not None else ():
            await self._destroy(kind.value, name)

    async def _take_up(self) -> None:
        """Follow what the database says, if it is news."""
        ca, signing_key = self._signers.seats.versions
        if not await self._signers.load():
            return
        if self._signers.seats.signing_key.rotation.version != signing_key:
            self._watch.follow(self._signers.seats.signing_key)
        try:
            await in_thread(write_roots, self._settings, self._signers.seats)
        except CertificateError as error:
            self._log.error("signers.roots_not_written", reason=str(error))
        if self._signers.seats.ca.rotation.version != ca:
            await self._own.renew()

    async def _follow(self) -> None:
        await self._take_up()
        await self._trust.refresh()
        await self._destroy_ended()

    async def _destroy_ended(self) -> None:
        """Destroy keys that have no use any more; what cannot be destroyed is tried again after the next step."""
        async with self._database.read() as session:
            ended = await signers.ended(session)
        for signer in ended:
            for name in signer.key_names.values():
                await self._destroy(signer.kind, name)

    async def _tell(self) -> None:
        kinds = tuple(SignerKind)
        for kind, progress in zip(
            kinds, await self._watch.progress(kinds, self._clock.now(), most_named=0), strict=True
        ):
            self._gauges.tell(kind, progress)

    async def _destroy(self, kind: str, name: str) -> None:
        try:
            await asyncio.to_thread(self._stores.of(kind).destroy, name)
        except CertificateError as error:
            self._log.error("signers.key_not_destroyed", key_name=name, reason=str(error))


def _code_for(error: CertificateError) -> ErrorCode:
    """A key that the disk has no room for may be made later; what else is wrong stays so until it is seen to."""
    cause = error.__cause__
    is_full = isinstance(cause, OSError) and cause.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS)
    return ErrorCode.INSUFFICIENT_STORAGE if is_full else ErrorCode.RESOURCE_CONFLICT
