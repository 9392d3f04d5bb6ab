from trunkline.channel.taking import Taking


def test_a_peer_is_idle_since_there_was_last_less_than_before():
    taking = Taking(100, 10.0)
    assert taking.idle_seconds(100, 12.0) == 2.0
    assert taking.idle_seconds(99, 13.0) == 0.0
    assert taking.idle_seconds(99, 14.5) == 1.5


def test_what_is_written_meanwhile_is_not_taken_and_hides_nothing_for_long():
    taking = Taking(100, 0.0)
    assert taking.idle_seconds(5000, 1.0) == 1.0
    assert taking.idle_seconds(4000, 2.0) == 0.0
