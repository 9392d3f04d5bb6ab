"""How room is shared among streams, and where kept bytes are."""

import random

from control_plane.outputs.cuts import Cut, cuts_of


def test_what_is_small_is_kept_whole():
    assert cuts_of(10, 20, 100) == (Cut(10, 10, 0), Cut(20, 20, 0))
    assert cuts_of(100, 0, 100) == (Cut(100, 100, 0), Cut(0, 0, 0))


def test_one_stream_has_the_room_that_the_other_does_not_need():
    stdout, stderr = cuts_of(1000, 10, 100)
    assert (stdout, stderr) == (Cut(1000, 45, 45), Cut(10, 10, 0))
    assert cuts_of(10, 1000, 100) == (Cut(10, 10, 0), Cut(1000, 45, 45))
    assert cuts_of(1000, 1000, 100) == (Cut(1000, 25, 25), Cut(1000, 25, 25))


def test_never_more_than_the_room_and_every_byte_has_one_place():
    rng = random.Random(1)
    for _ in range(500):
        sizes, room = (rng.randrange(60), rng.randrange(60)), rng.randrange(50)
        cuts = cuts_of(*sizes, room)
        assert sum(cut.kept_bytes for cut in cuts) <= room
        assert sum(cut.kept_bytes for cut in cuts) == min(room, sum(sizes))
        for cut in cuts:
            places = [place[0] for offset in range(cut.size_bytes) if (place := cut.place(offset)) is not None]
            assert places == list(range(cut.kept_bytes))
