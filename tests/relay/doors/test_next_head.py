import pytest

from relay.doors.next_head import NextHead
from trunkline.channel.fields import MAX_HEAD_BYTES
from trunkline.channel.heads import HeadError

HEADS = [b"GET /a HTTP/1.1\r\nHost: a\r\n\r\n", b"HTTP/1.1 200 OK\r\n\r\n", b"PUT /b HTTP/1.1\r\n\r\n"]


@pytest.mark.parametrize("step", [1, 2, 3, 7, 1000])
def test_any_split_gives_the_same_heads(step: int) -> None:
    data = b"".join(HEADS) + b"rest"
    heads, got = NextHead(), []
    for start in range(0, len(data), step):
        piece = data[start : start + step]
        while piece:
            raw = heads.next_head(piece)
            if raw is None:
                break
            got.append(raw)
            piece = heads.take_leftover()
    assert got == HEADS
    assert heads.begun


def test_a_head_in_one_piece_is_not_held() -> None:
    heads = NextHead()
    assert heads.next_head(HEADS[0] + HEADS[1]) == HEADS[0]
    assert heads.take_leftover() == HEADS[1]
    assert heads.take_leftover() == b""
    assert not heads.begun
    assert heads.next_head(HEADS[1][:5]) is None
    assert heads.begun
    assert heads.next_head(HEADS[1][5:] + b"x") == HEADS[1]
    assert (heads.take_leftover(), heads.begun) == (b"x", False)


@pytest.mark.parametrize(
    ("data", "code"),
    [(b"A: " + b"a" * MAX_HEAD_BYTES + b"\r\n\r\n", "head_too_large"), (b"\0", "malformed_head")],
)
def test_what_can_no_longer_become_a_head_is_refused(data: bytes, code: str) -> None:
    with pytest.raises(HeadError) as caught:
        NextHead().next_head(data)
    assert caught.value.code == code
