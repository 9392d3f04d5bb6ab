from tests.support.small_relay import SmallRelay, on_relay


@on_relay()
async def test_request_ids_are_hexadecimal_numbers_that_never_come_again(relay: SmallRelay) -> None:
    minted = [relay.front.mint_request_id() for _ in range(70_000)]
    assert [int(name.removeprefix(b"t-"), 16) for name in minted] == list(range(1, 70_001))
    assert minted[:1] + minted[254:257] == [b"t-01", b"t-ff", b"t-100", b"t-101"]
    assert len(set(minted)) == 70_000
