from trunkline.channel.streams import Stream


def test_a_new_stream_is_open_in_both_directions_with_full_windows():
    stream = Stream(5, 1000, 2000, 1)
    assert (stream.id, stream.send_window, stream.receive_window, stream.window_bytes) == (5, 1000, 2000, 2000)
    assert stream.writable
    assert stream.readable
    assert not stream.lost
    assert stream.unconsumed_bytes == 0
    assert repr(stream) == "<Stream 5 send_window=1000 receive_window=2000>"
