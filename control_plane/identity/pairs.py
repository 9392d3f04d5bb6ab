"""Pairs: a node's next leaf and the listen token bound to it, issued together, and the same to whoever asks again.

The leaf is kept with its signing request for as long as it lives, the whole answer for ten minutes; but what a rotation
has replaced meanwhile is issued anew. The sealing key that came along is kept with the leaf, and becomes the node's
only once the leaf is confirmed.
"""

from dataclasses import asdict, dataclass

from sqlalchemy.ext.asyncio import AsyncSession

from control_plane.errors import conflict
from control_plane.identity.bootstrap import ANSWER_SECONDS
from control_plane.identity.issuance import Issuance, csr_hash
from control_plane.storage import bootstraps
from control_plane.storage.records.accounts import Workspace
from control_plane.storage.records.nodes import Node

RENEWAL = "renewal"


@dataclass(frozen=True, slots=True)
class Pair:
    """A node's next leaf with the listen token that is bound to it.

    Attributes:
        certificate_chain: the leaf, and what leads to it.
        listen_token: the token.
        serial: the leaf's.
        renew_time: when to renew both (milliseconds), if a moment was promised.
    """

    certificate_chain: str
    listen_token: str
    serial: str
    renew_time: int | None = None


@dataclass(frozen=True, slots=True)
class PairRequest:
    """What a node asks for; without a sealing key the one that it has stays.

    `origin` is `RENEWAL`, or how the node came back.
    """

    csr: str
    sealing_key: str | None
    origin: str


async def issue_pair(
    session: AsyncSession, issuance: Issuance, workspace: Workspace, node: Node, request: PairRequest, now: float
) -> tuple[Pair, bool]:
    """Issue a pair, or find it; tells whether it is new.

    Raises:
        ApiError: the signing request is none, or was sent with another sealing key before.
    """
    csr_sha256, now_ms = csr_hash(request.csr), int(now * 1000)
    certificate = await issuance.node_certificate(
        session, node, request.csr, origin=request.origin, sealing_key=request.sealing_key, now=now
    )
    if certificate.sealing_key != request.sealing_key:
        raise conflict("this signing request was sent with another sealing key: make a new one")
    credential = f"renewal/{node.node_id}"
    known = await bootstraps.find_answer(session, credential, csr_sha256, now_ms)
    is_current = known is not None and known.answer["serial"] == certificate.serial
    if known is not None and is_current and issuance.has_signed(known.answer["listen_token"]):
        return Pair(**known.answer), False
    token = issuance.listen_token(workspace, node, certificate.chain, now)
    pair = Pair(
        certificate_chain=certificate.chain,
        listen_token=token,
        serial=certificate.serial,
        renew_time=issuance.renew_time(certificate.chain, now, first=request.origin != RENEWAL),
    )
    await bootstraps.keep_answer(
        session,
        credential,
        csr_sha256,
        subject_id=node.node_id,
        answer=asdict(pair),
        expire_time=now_ms + ANSWER_SECONDS * 1000,
    )
    return pair, True
