"""Page tokens: opaque, and good only for the list and filters that gave them."""

import pytest

from control_plane.api.pages import PageQuery, Pages
from control_plane.errors import ApiError

PAGES = Pages(b"k" * 32)


class Filtered(PageQuery):
    state: str | None = None


def walk(rows: list[int], size: int) -> list[int]:
    found: list[int] = []
    token = None
    while True:
        query = PageQuery(page_size=size, page_token=token)
        asked = PAGES.asked_for("/list", query)
        after = asked.after(int)
        left = [row for row in rows if after is None or row > after]
        page, next_page = asked.cut(left[: asked.most_rows], lambda row: (row,))
        found += page
        token = next_page.get("next_page_token")
        if token is None:
            return found


@pytest.mark.parametrize("size", [1, 2, 3, 10, 11, 1000])
def test_pages_put_together_are_the_list(size: int):
    assert walk(list(range(10)), size) == list(range(10))


def token_of(scope: str, query: PageQuery) -> str:
    _, next_page = PAGES.asked_for(scope, query).cut([1, 2], lambda row: (row,))
    return next_page["next_page_token"]


def test_a_token_of_another_list_filter_or_key_is_refused():
    token = token_of("/list", Filtered(page_size=1, state="online"))
    assert PAGES.asked_for("/list", Filtered(page_size=5, state="online", page_token=token)).start == (1,)
    for pages, scope, state in [
        (PAGES, "/other", "online"),
        (PAGES, "/list", "offline"),
        (PAGES, "/list", None),
        (Pages(b"x" * 32), "/list", "online"),
    ]:
        with pytest.raises(ApiError, match="page_token"):
            pages.asked_for(scope, Filtered(page_size=1, state=state, page_token=token))


@pytest.mark.parametrize("token", ["x", "ä", "=" * 9, "AAAA" * 100, "../..", "WzFd" + "A" * 22])
def test_garbage_is_refused(token: str):
    with pytest.raises(ApiError, match="page_token"):
        PAGES.asked_for("/list", PageQuery(page_token=token))


def test_an_empty_token_asks_for_the_first_page():
    assert PAGES.asked_for("/list", PageQuery(page_token="")).start is None


@pytest.mark.parametrize("size", [0, -1, 1001])
def test_the_size_is_bounded(size: int):
    with pytest.raises(ValueError, match="page_size"):
        PageQuery(page_size=size)
