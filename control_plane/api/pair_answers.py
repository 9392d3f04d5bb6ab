"""The answer to a renewal: the pair, and what else a node has to know of by now."""

from aiohttp import web

from control_plane.api.context import ApiContext
from control_plane.api.responses import json_response
from control_plane.identity.pairs import Pair
from control_plane.storage import relays


async def pair_answer(context: ApiContext, pair: Pair) -> web.Response:
    """Return leaf, listen token, when to renew them, relays and trust document as a response."""
    async with context.database.read() as session:
        addresses = await relays.addresses(session)
    answer = {
        "certificate_chain": pair.certificate_chain,
        "listen_token": pair.listen_token,
        "relays": addresses,
        "trust_document": context.trust.text,
    }
    return json_response(answer | renew_time(pair.renew_time))


def renew_time(promised: int | None) -> dict[str, int]:
    """Return the member of an answer that says when to renew the pair in it (milliseconds), if that was promised."""
    return {} if promised is None else {"renew_time": promised}
