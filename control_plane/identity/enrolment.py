"""Enrolment: a relay join token and a signing request become a relay with its first identity, exactly once."""

from sqlalchemy.ext.asyncio import AsyncSession

from control_plane.errors import ApiError, ErrorCode, conflict, invalid
from control_plane.identity.bootstrap import ANSWER_SECONDS
from control_plane.identity.issuance import Issuance, csr_hash
from control_plane.metrics import ControlPlaneMetrics
from control_plane.names import new_id
from control_plane.refusal_ledger import RefusalLedger
from control_plane.storage import bootstraps, join_tokens, relays
from control_plane.storage.audit import Actor, Happening, append
from control_plane.storage.database import Database
from control_plane.storage.records.relays import Relay, RelayJoinToken
from trunkline.runtime.clock import Clock


class Enrolment:
    """Decides about relays."""

    def __init__(
        self,
        *,
        database: Database,
        issuance: Issuance,
        ledger: RefusalLedger,
        metrics: ControlPlaneMetrics,
        clock: Clock,
    ) -> None:
        self._database = database
        self._issuance = issuance
        self._ledger = ledger
        self._metrics = metrics
        self._clock = clock

    async def decide(self, token: str, csr: str, name: str, actor: Actor) -> tuple[Relay, str]:
        """Make the machine a relay; returns it and its certificate chain.

        The same token and CSR get the same answer for ten minutes, another CSR is a conflict.

        Raises:
            ApiError: why not.
        """
        try:
            relay, chain = await self._decide(token, csr, name, actor)
        except ApiError as error:
            self._metrics.bootstraps.labels("relay_join_token", error.code.symbol).inc()
            self._ledger.record("relay.enrol", error.message[:200], actor)
            raise
        self._metrics.bootstraps.labels("relay_join_token", "ok").inc()
        return relay, chain

    async def _decide(self, token: str, csr: str, name: str, actor: Actor) -> tuple[Relay, str]:
        csr_sha256 = csr_hash(csr)
        now = self._clock.now()
        now_ms = int(now * 1000)
        async with self._database.write() as session:
            record = await join_tokens.find_presented_by_relay(session, token)
            if record is None or record.expire_time <= now_ms:
                raise ApiError(
                    ErrorCode.UNAUTHENTICATED, "this relay join token is unknown or has expired: ask for a new one"
                )
            if record.name != name:
                raise invalid("name", f"this relay join token is for the relay {record.name!r}")
            if record.relay_id is not None:
                return await self._again(session, record, token, csr_sha256, now_ms)
            relay = await self._new_relay(session, record, now_ms)
            certificate = await self._issuance.relay_certificate(session, relay, csr, origin="enrol", now=now)
            await bootstraps.keep_answer(
                session,
                _credential(token),
                csr_sha256,
                subject_id=relay.relay_id,
                answer={"certificate_chain": certificate.chain},
                expire_time=now_ms + ANSWER_SECONDS * 1000,
            )
            details = {"relay_id": relay.relay_id, "join_token_id": record.join_token_id}
            append(session, now, actor, Happening("relay.enrol", resource=relay.relay, details=details))
        return relay, certificate.chain

    async def _again(
        self, session: AsyncSession, record: RelayJoinToken, token: str, csr_sha256: str, now_ms: int
    ) -> tuple[Relay, str]:
        known = await bootstraps.find_answer(session, _credential(token), csr_sha256, now_ms)
        relay = await relays.find(session, record.relay_id or "")
        if known is None or relay is None:
            raise conflict("this relay join token was used by another machine: ask for a new one")
        return relay, str(known.answer["certificate_chain"])

    async def _new_relay(self, session: AsyncSession, record: RelayJoinToken, now_ms: int) -> Relay:
        if await relays.find_by_name(session, record.name) is not None:
            raise conflict(f"a relay named {record.name!r} exists: delete it before another takes its name")
        relay = Relay(relay_id=new_id("rl"), relay=record.name, dns_names=record.dns_names, creation_time=now_ms)
        session.add(relay)
        record.relay_id = relay.relay_id
        return relay


def _credential(token: str) -> str:
    return f"enrolment/{token}"
