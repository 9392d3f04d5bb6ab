"""Long lists of the API, page by page."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Any, TypeVar

from trunkline.client.api_transport import ApiTransport
from trunkline.client.errors import BadResponse
from trunkline.client.records.record import Record

PAGE_SIZE = 200
_MOST_PAGES = 100_000

R = TypeVar("R", bound=Record)


async def read_pages(
    transport: ApiTransport,
    path: str,
    key: str,
    record: type[R],
    query: Mapping[str, str | int | None] | None = None,
    repeated: list[tuple[str, str]] | None = None,
    page_size: int = PAGE_SIZE,
) -> AsyncIterator[R]:
    """Every entry of a list, the next page fetched when the last entry of the one before has been taken.

    Args:
        transport: to the control plane.
        path: of the list.
        key: the field of the answer that holds the entries.
        record: the type of an entry.
        query: filters; those that are None are left out.
        repeated: filters that may occur several times.
        page_size: how many entries to ask for at once, a thousand at most.

    Raises:
        TrunklineError: as `ApiTransport.call`.
        BadResponse: it is no list, or has no end: what was listed is not all.
    """
    async for page in whole_pages(transport, path, key, query, repeated, page_size):
        for entry in page[key]:
            yield read_record(record, entry)


async def whole_pages(
    transport: ApiTransport,
    path: str,
    key: str,
    query: Mapping[str, str | int | None] | None = None,
    repeated: list[tuple[str, str]] | None = None,
    page_size: int = PAGE_SIZE,
) -> AsyncIterator[dict[str, Any]]:
    """The pages of a list, each with `key`, for lists that say something besides their entries; as `read_pages`."""
    filters = [(name, str(value)) for name, value in (query or {}).items() if value is not None] + (repeated or [])
    page_token: str | None = None
    seen: set[str] = set()
    while len(seen) < _MOST_PAGES:
        parameters = [*filters, ("page_size", str(page_size))]
        if page_token is not None:
            parameters.append(("page_token", page_token))
        page = await transport.call("GET", path, query=parameters)
        entries = page.get(key, [])
        if not isinstance(entries, list):
            raise BadResponse(f"the control plane's list of {key} is none")
        yield {**page, key: entries}
        page_token = page.get("next_page_token")
        if not isinstance(page_token, str) or not page_token:
            return
        if page_token in seen:
            raise BadResponse(f"the control plane's list of {key} begins again: its end is not known")
        seen.add(page_token)
    raise BadResponse(f"the control plane's list of {key} has more than {_MOST_PAGES} pages")


def read_record(record: type[R], document: object) -> R:
    """One typed result.

    Raises:
        BadResponse: a field that every release sends is missing or of another type.
    """
    try:
        return record.model_validate(document)
    except ValueError:
        raise BadResponse(f"the control plane's {record.__name__.lower()} could not be read by this release") from None
