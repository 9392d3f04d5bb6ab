import pytest

from trunkline.channel.fields import MAX_FIELDS, MAX_HEAD_BYTES
from trunkline.channel.heads import (
    Framing,
    HeadBuffer,
    HeadError,
    parse_request_head,
    parse_response_head,
    write_request_head,
    write_response_head,
)
from trunkline.channel.targets import TargetForm

GOOD = b"GET / HTTP/1.1\r\nHost: a.b\r\n"


def request(*lines: bytes, start: bytes = b"POST / HTTP/1.1") -> bytes:
    return b"".join(line + b"\r\n" for line in (start, *lines)) + b"\r\n"


def response(*lines: bytes, start: bytes = b"HTTP/1.1 200 OK") -> bytes:
    return request(*lines, start=start)


REFUSED_REQUESTS = {
    "cl_te": (request(b"Host: a", b"Content-Length: 3", b"Transfer-Encoding: chunked"), 400),
    "te_cl": (request(b"Host: a", b"Transfer-Encoding: chunked", b"Content-Length: 3"), 400),
    "te_te": (request(b"Host: a", b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked"), 400),
    "te_list": (request(b"Host: a", b"Transfer-Encoding: gzip, chunked"), 501),
    "te_chunked_twice": (request(b"Host: a", b"Transfer-Encoding: chunked, chunked"), 501),
    "te_identity": (request(b"Host: a", b"Transfer-Encoding: identity"), 501),
    "te_obfuscated": (request(b"Host: a", b"Transfer-Encoding: xchunked"), 501),
    "te_quoted": (request(b"Host: a", b'Transfer-Encoding: "chunked"'), 501),
    "te_parameter": (request(b"Host: a", b"Transfer-Encoding: chunked;q=1"), 501),
    "te_vertical_tab": (request(b"Host: a", b"Transfer-Encoding: \x0bchunked"), 400),
    "te_empty": (request(b"Host: a", b"Transfer-Encoding:"), 501),
    "te_on_1_0": (request(b"Host: a", b"Transfer-Encoding: chunked", start=b"POST / HTTP/1.0"), 400),
    "cl_twice_same": (request(b"Host: a", b"Content-Length: 3", b"Content-Length: 3"), 400),
    "cl_twice_other": (request(b"Host: a", b"Content-Length: 3", b"content-length: 4"), 400),
    "cl_list": (request(b"Host: a", b"Content-Length: 3, 3"), 400),
    "cl_plus": (request(b"Host: a", b"Content-Length: +3"), 400),
    "cl_minus": (request(b"Host: a", b"Content-Length: -3"), 400),
    "cl_inner_space": (request(b"Host: a", b"Content-Length: 1 3"), 400),
    "cl_hex": (request(b"Host: a", b"Content-Length: 0x3"), 400),
    "cl_underscore": (request(b"Host: a", b"Content-Length: 1_0"), 400),
    "cl_leading_zero": (request(b"Host: a", b"Content-Length: 03"), 400),
    "cl_empty": (request(b"Host: a", b"Content-Length:"), 400),
    "cl_too_many_digits": (request(b"Host: a", b"Content-Length: " + b"9" * 19), 400),
    "obs_fold": (request(b"Host: a", b"X: 1", b" folded"), 400),
    "obs_fold_tab": (request(b"Host: a", b"X: 1", b"\tfolded"), 400),
    "fold_before_first_field": (request(b" Host: a"), 400),
    "bare_lf_line": (b"GET / HTTP/1.1\nHost: a\r\n\r\n", 400),
    "bare_lf_in_fields": (b"GET / HTTP/1.1\r\nHost: a\nX: 1\r\n\r\n", 400),
    "bare_cr_in_value": (request(b"Host: a", b"X: a\rb"), 400),
    "cr_cr_lf": (b"GET / HTTP/1.1\r\nHost: a\r\r\n\r\n", 400),
    "nul_in_value": (request(b"Host: a", b"X: a\0b"), 400),
    "nul_in_name": (request(b"Host: a", b"X\0: a"), 400),
    "control_in_value": (request(b"Host: a", b"X: a\x08"), 400),
    "delete_in_value": (request(b"Host: a", b"X: a\x7f"), 400),
    "space_before_colon": (request(b"Host: a", b"X : a"), 400),
    "tab_before_colon": (request(b"Host: a", b"X\t: a"), 400),
    "no_colon": (request(b"Host: a", b"X"), 400),
    "empty_name": (request(b"Host: a", b": a"), 400),
    "non_ascii_name": (request(b"Host: a", b"X\xc3\xa9: a"), 400),
    "no_host": (request(b"X: a"), 400),
    "empty_host": (request(b"Host:"), 400),
    "two_hosts": (request(b"Host: a", b"Host: a"), 400),
    "two_hosts_other": (request(b"Host: a", b"host: b"), 400),
    "host_list": (request(b"Host: a, b"), 400),
    "host_userinfo": (request(b"Host: me@a"), 400),
    "host_path": (request(b"Host: a/b"), 400),
    "host_bad_port": (request(b"Host: a:99999"), 400),
    "host_port_zero": (request(b"Host: a:0"), 400),
    "host_space": (request(b"Host: a b"), 400),
    "absolute_disagrees": (request(b"Host: b", start=b"GET http://a/ HTTP/1.1"), 400),
    "absolute_port_disagrees": (request(b"Host: a:81", start=b"GET http://a/ HTTP/1.1"), 400),
    "absolute_port_not_in_host": (request(b"Host: a", start=b"GET http://a:81/ HTTP/1.1"), 400),
    "absolute_without_host": (request(start=b"GET http://a/ HTTP/1.1"), 400),
    "absolute_userinfo": (request(b"Host: a", start=b"GET http://me@a/ HTTP/1.1"), 400),
    "absolute_https": (request(b"Host: a", start=b"GET https://a/ HTTP/1.1"), 400),
    "absolute_empty_authority": (request(b"Host: a", start=b"GET http:///x HTTP/1.1"), 400),
    "absolute_backslash": (request(b"Host: a", start=b"GET http://a\\@b/ HTTP/1.1"), 400),
    "fragment": (request(b"Host: a", start=b"GET /#x HTTP/1.1"), 400),
    "fragment_in_query": (request(b"Host: a", start=b"GET /?a#x HTTP/1.1"), 400),
    "non_ascii_target": (request(b"Host: a", start=b"GET /\xc3\xa9 HTTP/1.1"), 400),
    "control_in_target": (request(b"Host: a", start=b"GET /\x01 HTTP/1.1"), 400),
    "bad_escape": (request(b"Host: a", start=b"GET /%zz HTTP/1.1"), 400),
    "backslash_in_path": (request(b"Host: a", start=b"GET /\\a HTTP/1.1"), 400),
    "relative_target": (request(b"Host: a", start=b"GET a HTTP/1.1"), 400),
    "asterisk_get": (request(b"Host: a", start=b"GET * HTTP/1.1"), 400),
    "connect_no_port": (request(b"Host: a", start=b"CONNECT a HTTP/1.1"), 400),
    "connect_origin": (request(b"Host: a", start=b"CONNECT /a HTTP/1.1"), 400),
    "connect_userinfo": (request(b"Host: a:1", start=b"CONNECT me@a:1 HTTP/1.1"), 400),
    "connect_port_zero": (request(b"Host: a:0", start=b"CONNECT a:0 HTTP/1.1"), 400),
    "connect_leading_zero": (request(b"Host: a:080", start=b"CONNECT a:080 HTTP/1.1"), 400),
    "connect_big_port": (request(b"Host: a:65536", start=b"CONNECT a:65536 HTTP/1.1"), 400),
    "connect_host_disagrees": (request(b"Host: b:1", start=b"CONNECT a:1 HTTP/1.1"), 400),
    "connect_port_disagrees": (request(b"Host: a:2", start=b"CONNECT a:1 HTTP/1.1"), 400),
    "connect_with_length": (request(b"Host: a:1", b"Content-Length: 1", start=b"CONNECT a:1 HTTP/1.1"), 400),
    "connect_chunked": (request(b"Host: a:1", b"Transfer-Encoding: chunked", start=b"CONNECT a:1 HTTP/1.1"), 400),
    "leading_crlf": (b"\r\n" + request(b"Host: a"), 400),
    "leading_space": (b" " + request(b"Host: a"), 400),
    "two_spaces": (request(b"Host: a", start=b"GET  / HTTP/1.1"), 400),
    "tab_separator": (request(b"Host: a", start=b"GET\t/ HTTP/1.1"), 400),
    "trailing_space": (request(b"Host: a", start=b"GET / HTTP/1.1 "), 400),
    "http_0_9": (b"GET /\r\n\r\n", 400),
    "http_0_9_with_fields": (request(b"Host: a", start=b"GET /"), 400),
    "http_2_0": (request(b"Host: a", start=b"GET / HTTP/2.0"), 505),
    "http_2": (request(b"Host: a", start=b"GET / HTTP/2"), 505),
    "http_1_2": (request(b"Host: a", start=b"GET / HTTP/1.2"), 505),
    "http_1_10": (request(b"Host: a", start=b"GET / HTTP/1.10"), 400),
    "lower_case_http": (request(b"Host: a", start=b"GET / http/1.1"), 400),
    "foreign_protocol": (request(b"Host: a", start=b"GET / ICE/1.0"), 400),
    "rtsp": (request(b"Host: a", start=b"GET / RTSP/1.0"), 400),
    "http2_preface": (b"PRI * HTTP/2.0\r\n\r\n", 505),
    "method_not_token": (request(b"Host: a", start=b"GE(T / HTTP/1.1"), 400),
    "method_too_long": (request(b"Host: a", start=b"G" * 33 + b" / HTTP/1.1"), 400),
    "connection_not_tokens": (request(b"Host: a", b"Connection: a b"), 400),
    "two_upgrades": (request(b"Host: a", b"Connection: upgrade", b"Upgrade: a", b"Upgrade: b"), 400),
    "two_authorizations": (request(b"Host: a", b"Authorization: a", b"authorization: b"), 400),
    "two_proxy_authorizations": (request(b"Host: a", b"Proxy-Authorization: a", b"Proxy-Authorization: b"), 400),
    "two_expectations": (request(b"Host: a", b"Expect: 100-continue", b"Expect: 100-continue"), 400),
    "two_content_types": (request(b"Host: a", b"Content-Type: a/b", b"Content-Type: a/b"), 400),
    "two_max_forwards": (request(b"Host: a", b"Max-Forwards: 1", b"Max-Forwards: 1"), 400),
    "unknown_expectation": (request(b"Host: a", b"Expect: 200-maybe"), 417),
    "target_too_long": (request(b"Host: a", start=b"GET /" + b"a" * 8192 + b" HTTP/1.1"), 414),
    "too_many_fields": (request(b"Host: a", *[b"X: 1"] * MAX_FIELDS), 431),
    "too_large": (request(b"Host: a", b"X: " + b"a" * MAX_HEAD_BYTES), 431),
    "two_heads": (GOOD + b"\r\n" + GOOD + b"\r\n", 400),
    "no_empty_line": (GOOD, 400),
}

REFUSED_RESPONSES = {
    "cl_te": response(b"Content-Length: 3", b"Transfer-Encoding: chunked"),
    "te_te": response(b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked"),
    "te_other": response(b"Transfer-Encoding: gzip"),
    "te_on_1_0": response(b"Transfer-Encoding: chunked", start=b"HTTP/1.0 200 OK"),
    "cl_twice": response(b"Content-Length: 3", b"Content-Length: 3"),
    "upgrade_twice": response(b"Upgrade: a", b"Upgrade: a"),
    "cl_minus": response(b"Content-Length: -1"),
    "cl_list": response(b"Content-Length: 1, 1"),
    "obs_fold": response(b"X: 1", b" 2"),
    "bare_lf": b"HTTP/1.1 200 OK\r\nX: 1\nY: 2\r\n\r\n",
    "bare_cr": response(b"X: 1\rY: 2"),
    "nul": response(b"X: \0"),
    "space_before_colon": response(b"X : 1"),
    "leading_crlf": b"\r\n" + response(),
    "no_status": response(start=b"HTTP/1.1 OK"),
    "status_099": response(start=b"HTTP/1.1 099 X"),
    "status_600": response(start=b"HTTP/1.1 600 X"),
    "status_1000": response(start=b"HTTP/1.1 1000 X"),
    "two_spaces": response(start=b"HTTP/1.1  200 OK"),
    "http_2": response(start=b"HTTP/2.0 200 OK"),
    "foreign": response(start=b"ICY 200 OK"),
    "control_in_reason": response(start=b"HTTP/1.1 200 O\x01K"),
    "unasked_101": response(b"Connection: upgrade", b"Upgrade: websocket", start=b"HTTP/1.1 101 X"),
    "204_with_length": response(b"Content-Length: 3", start=b"HTTP/1.1 204 X"),
    "204_chunked": response(b"Transfer-Encoding: chunked", start=b"HTTP/1.1 204 X"),
    "100_with_length": response(b"Content-Length: 3", start=b"HTTP/1.1 100 X"),
    "100_chunked": response(b"Transfer-Encoding: chunked", start=b"HTTP/1.1 100 X"),
    "head_two_framings": response(b"Content-Length: 3", b"Transfer-Encoding: chunked", start=b"HTTP/1.1 304 X"),
    "too_many_fields": response(*[b"X: 1"] * (MAX_FIELDS + 1)),
    "a_request": GOOD + b"\r\n",
    "garbage": b"\x00\x01\x02\xff\r\n\r\n",
}


@pytest.mark.parametrize(("raw", "status"), REFUSED_REQUESTS.values(), ids=REFUSED_REQUESTS.keys())
def test_request_is_refused(raw: bytes, status: int) -> None:
    with pytest.raises(HeadError) as refusal:
        parse_request_head(raw)
    assert refusal.value.status == status


@pytest.mark.parametrize("raw", REFUSED_RESPONSES.values(), ids=REFUSED_RESPONSES.keys())
def test_response_is_refused(raw: bytes) -> None:
    with pytest.raises(HeadError):
        parse_response_head(raw, request_method=b"GET")


def test_request_head_says_what_matters() -> None:
    head = parse_request_head(
        request(b"hOsT:  VM-1.Finance:8080\t", b"Content-Length: 12", b"X-A: \xff b ", b"Connection: X-A, close")
    )
    assert (head.method, head.target, head.target_origin) == (b"POST", b"/", b"/")
    assert (head.host, head.port) == (b"vm-1.finance", 8080)
    assert (head.framing, head.content_length) == (Framing.LENGTH, 12)
    assert head.connection == {b"x-a", b"close"}
    assert not head.keep_alive
    assert head.get(b"x-a") == b"\xff b"
    assert head.get(b"x-b") is None


@pytest.mark.parametrize(
    ("start", "host", "form", "origin", "authority"),
    [
        (b"GET /a?b=[c]|d HTTP/1.1", b"h", TargetForm.ORIGIN, b"/a?b=[c]|d", (b"h", None)),
        (b"GET http://H/a?b HTTP/1.1", b"h", TargetForm.ABSOLUTE, b"/a?b", (b"h", None)),
        (b"GET HTTP://h:4040 HTTP/1.1", b"h:4040", TargetForm.ABSOLUTE, b"/", (b"h", 4040)),
        (b"GET http://h?x HTTP/1.1", b"h:80", TargetForm.ABSOLUTE, b"/?x", (b"h", None)),
        (b"OPTIONS http://h HTTP/1.1", b"h", TargetForm.ABSOLUTE, b"*", (b"h", None)),
        (b"OPTIONS * HTTP/1.1", b"h", TargetForm.ASTERISK, b"*", (b"h", None)),
        (b"CONNECT h:22 HTTP/1.1", b"h:22", TargetForm.AUTHORITY, b"h:22", (b"h", 22)),
        (b"CONNECT h:22 HTTP/1.1", b"h", TargetForm.AUTHORITY, b"h:22", (b"h", 22)),
        (b"GET //x/%2e%2E/../a HTTP/1.1", b"[::1]:8", TargetForm.ORIGIN, b"//x/%2e%2E/../a", (b"[::1]", 8)),
    ],
)
def test_target_forms(start, host, form, origin, authority) -> None:
    head = parse_request_head(request(b"Host: " + host, start=start))
    assert (head.target_form, head.target_origin, (head.host, head.port)) == (form, origin, authority)


def test_http_1_0_needs_no_host_and_closes() -> None:
    head = parse_request_head(request(b"Connection: keep-alive", start=b"GET / HTTP/1.0"))
    assert (head.host, head.port, head.keep_alive) == (None, None, False)


@pytest.mark.parametrize("value", [b"", b",", b" , ,"])
def test_an_empty_list_of_connection_options_is_none(value: bytes) -> None:
    assert parse_request_head(request(b"Host: a", b"Connection:" + value)).connection == frozenset()
    head = parse_response_head(response(b"Connection:" + value), request_method=b"GET")
    assert (head.connection, head.keep_alive) == (frozenset(), True)


def test_a_response_may_say_twice_what_is_not_its_framing() -> None:
    # As of a server whose configuration adds a Content-Type to that of the application.
    head = parse_response_head(response(b"Content-Type: a/b", b"Content-Type: c/d"), request_method=b"GET")
    assert head.fields == [(b"Content-Type", b"a/b"), (b"Content-Type", b"c/d")]


def test_connect_may_say_that_it_has_no_content() -> None:
    head = parse_request_head(request(b"Host: a:1", b"Content-Length: 0", start=b"CONNECT a:1 HTTP/1.1"))
    assert (head.framing, head.content_length) == (Framing.TUNNEL, 0)


@pytest.mark.parametrize(
    ("lines", "upgrade"),
    [
        ((b"Connection: keep-alive, Upgrade", b"Upgrade: websocket"), b"websocket"),
        ((b"Upgrade: websocket",), None),
        ((b"Connection: upgrade", b"Upgrade: h2c"), None),
        ((b"Connection: upgrade", b"Upgrade: a, b"), None),
        ((b"Connection: upgrade", b"Upgrade: websocket", b"Content-Length: 1"), None),
        ((b"Connection: upgrade", b"Upgrade: websocket", b"Transfer-Encoding: chunked"), None),
        ((b"Connection: upgrade", b"Upgrade: websocket", b"Content-Length: 0"), b"websocket"),
        ((b"Connection: upgrade", b"Upgrade: SPDY/3.1"), b"SPDY/3.1"),
        ((b"Connection: upgrade", b"Upgrade: HTTP/2.0"), None),
        ((b"Connection: upgrade", b"Upgrade: a/b/c"), None),
        ((b"Connection: upgrade", b"Upgrade: a/"), None),
    ],
)
def test_upgrade_must_be_one_protocol_named_in_connection(lines, upgrade) -> None:
    head = parse_request_head(request(b"Host: a", *lines))
    assert head.upgrade == upgrade
    assert head.names_upgrade


@pytest.mark.parametrize("start", [b"GET / HTTP/1.0", b"CONNECT a:1 HTTP/1.1"])
def test_nothing_is_upgraded_in_http_1_0_or_beside_a_tunnel(start: bytes) -> None:
    head = parse_request_head(request(b"Host: a", b"Connection: upgrade", b"Upgrade: websocket", start=start))
    assert head.upgrade is None
    assert head.names_upgrade


def test_http_1_0_expects_nothing() -> None:
    lines = b"Host: a", b"Expect: 100-continue", b"Content-Length: 2"
    assert not parse_request_head(request(*lines, start=b"POST / HTTP/1.0")).expect_continue


@pytest.mark.parametrize(
    ("lines", "expected"),
    [((b"Content-Length: 2",), True), ((b"Content-Length: 0",), False), ((b"Transfer-Encoding: chunked",), True)],
)
def test_expect_continue_counts_only_with_content(lines, expected) -> None:
    assert parse_request_head(request(b"Host: a", b"Expect: 100-Continue", *lines)).expect_continue is expected


@pytest.mark.parametrize(
    ("start", "lines", "method", "framing", "length"),
    [
        (b"HTTP/1.1 200 Fine", (b"Content-Length: 3",), b"GET", Framing.LENGTH, 3),
        (b"HTTP/1.1 200", (b"Transfer-Encoding: CHUNKED",), b"GET", Framing.CHUNKED, None),
        (b"HTTP/1.1 200 ", (), b"GET", Framing.CLOSE, None),
        (b"HTTP/1.0 200 OK", (), b"GET", Framing.CLOSE, None),
        (b"HTTP/1.1 200 OK", (b"Content-Length: 3",), b"HEAD", Framing.NONE, 3),
        (b"HTTP/1.1 200 OK", (b"Transfer-Encoding: chunked",), b"HEAD", Framing.NONE, None),
        (b"HTTP/1.1 304 Not Modified", (b"Content-Length: 3",), b"GET", Framing.NONE, 3),
        (b"HTTP/1.1 204 No Content", (b"Content-Length: 0",), b"GET", Framing.NONE, None),
        (b"HTTP/1.1 100 Continue", (), b"POST", Framing.NONE, None),
        (b"HTTP/1.1 100 Continue", (), b"CONNECT", Framing.NONE, None),
        (b"HTTP/1.1 200 OK", (), b"CONNECT", Framing.TUNNEL, None),
        (b"HTTP/1.1 403 No", (b"Content-Length: 3",), b"CONNECT", Framing.LENGTH, 3),
        (b"HTTP/1.1 599 ?", (), b"GET", Framing.CLOSE, None),
    ],
)
def test_response_framing(start, lines, method, framing, length) -> None:
    head = parse_response_head(response(*lines, start=start), request_method=method)
    assert (head.framing, head.content_length) == (framing, length)


def test_switching_protocols_must_answer_what_was_asked() -> None:
    raw = response(b"Connection: Upgrade", b"Upgrade: WebSocket", start=b"HTTP/1.1 101 Go")
    head = parse_response_head(raw, request_method=b"GET", upgrade=b"websocket")
    assert (head.framing, head.upgrade, head.reason) == (Framing.TUNNEL, b"WebSocket", b"Switching Protocols")
    with pytest.raises(HeadError):
        parse_response_head(raw, request_method=b"GET", upgrade=b"yamux")
    for field in (b"Connection:", b"Upgrade:"):
        with pytest.raises(HeadError):
            parse_response_head(raw.replace(field, b"X:"), request_method=b"GET", upgrade=b"websocket")


def test_written_heads_parse_to_the_same() -> None:
    fields = [(b"Host", b"a"), (b"X", b"\xff;"), (b"x", b"")]
    head = parse_request_head(write_request_head(b"GET", b"/a?b", fields))
    assert (head.method, head.target, head.fields) == (b"GET", b"/a?b", fields)
    written = write_response_head(404, [(b"Content-Length", b"0")])
    assert written == b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"
    assert parse_response_head(written, request_method=b"GET").fields == [(b"Content-Length", b"0")]


@pytest.mark.parametrize("poison", [b"a\r\nX: b", b"a\nb", b"a\rb", b"a\0", b"a\r\n\r\nGET / HTTP/1.1"])
def test_nothing_breaks_out_of_a_written_line(poison: bytes) -> None:
    for write in (
        lambda: write_request_head(b"GET", b"/", [(b"X", poison)]),
        lambda: write_request_head(b"GET", b"/", [(poison, b"x")]),
        lambda: write_request_head(b"GET", b"/" + poison, []),
        lambda: write_request_head(poison, b"/", []),
        lambda: write_response_head(200, [(b"X", poison)]),
        lambda: write_response_head(200, [(poison, b"x")]),
    ):
        with pytest.raises(ValueError, match="malformed"):
            write()


def buffered(data: bytes, step: int) -> tuple[bytes, bytes] | int | None:
    """What a HeadBuffer makes of `data` in pieces: head and leftover, a status, or None while it waits."""
    buffer = HeadBuffer()
    for start in range(0, len(data), step):
        try:
            head = buffer.receive_data(data[start : start + step])
        except HeadError as error:
            return error.status
        if head is not None:
            return head, buffer.leftover + data[start + step :]
    return None


BUFFERED = [
    *(raw for raw, _ in REFUSED_REQUESTS.values()),
    *REFUSED_RESPONSES.values(),
    GOOD + b"\r\n",
    GOOD + b"\r\nrest\r\n\r\nmore",
    GOOD,
    b"a" * (MAX_HEAD_BYTES + 1),
    GOOD + b"X: " + b"a" * MAX_HEAD_BYTES + b"\n",
    GOOD + b"X: " + b"a" * (MAX_HEAD_BYTES - len(GOOD) - 3 - 4) + b"\r\n\r\n",
    GOOD + b"X: " + b"a" * (MAX_HEAD_BYTES - len(GOOD) - 3 - 3) + b"\r\n\r\n",
]


@pytest.mark.parametrize("data", BUFFERED, ids=range(len(BUFFERED)))
def test_any_split_of_a_head_gives_the_same(data: bytes) -> None:
    whole = buffered(data, len(data))
    for step in (1, 2, 3, 7, 1000):
        assert buffered(data, step) == whole


def test_head_of_the_largest_size_is_taken_and_one_byte_more_is_not() -> None:
    assert isinstance(buffered(BUFFERED[-2], 4096), tuple)
    assert buffered(BUFFERED[-1], 4096) == 431
