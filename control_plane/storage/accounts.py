"""The account: the one row that owns everything, its trust sequence, and its operators."""

import base64
import hashlib
import secrets

from sqlalchemy import delete, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from control_plane.names import new_id
from control_plane.storage.errors import StorageLostError
from control_plane.storage.records.accounts import Account, Operator

FIRST_TRUST_SEQUENCE = 1


async def find_account(session: AsyncSession) -> Account | None:
    """Return the account, or None before `init`."""
    return (await session.scalars(select(Account))).one_or_none()


async def the_account(session: AsyncSession) -> Account:
    """Return the account of an initialised control plane.

    Raises:
        StorageLostError: there is none any more.
    """
    account = await find_account(session)
    if account is None:
        raise StorageLostError
    return account


def add_account(session: AsyncSession, now_ms: int) -> Account:
    """Create the account."""
    account = Account(
        account_id=new_id("ac"),
        page_key=base64.b64encode(secrets.token_bytes(32)).decode(),
        trust_sequence=FIRST_TRUST_SEQUENCE,
        trust_change_time=now_ms,
        creation_time=now_ms,
    )
    session.add(account)
    return account


async def next_trust_sequence(session: AsyncSession, now_ms: int) -> int:
    """Count the trust document one up, in this transaction, and return its new number."""
    changed = {"trust_sequence": Account.trust_sequence + 1, "trust_change_time": now_ms, "trust_fingerprint": None}
    await session.execute(update(Account).values(changed))
    return (await session.scalars(select(Account.trust_sequence))).one()


async def replace_operator(session: AsyncSession, token: str, now_ms: int) -> str:
    """Make this the one operator token, by its hash; returns the operator's id."""
    await session.execute(delete(Operator))
    operator = Operator(operator_id=new_id("op"), token_sha256=token_hash(token), creation_time=now_ms)
    session.add(operator)
    return operator.operator_id


async def operators(session: AsyncSession) -> dict[str, str]:
    """Return the operators' ids by the hashes of their tokens."""
    return {row.token_sha256: row.operator_id for row in (await session.scalars(select(Operator))).all()}


def token_hash(token: str) -> str:
    """Return the hexadecimal SHA-256 of a token of 256 random bits, or of whatever was presented as one."""
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()
