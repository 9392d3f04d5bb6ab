import io
import json
import logging

import pytest

from trunkline.runtime.logs import configure_logging, get_logger
from trunkline.runtime.secret import Secret

CANARY = "c4n4ryc4n4ryc4n4ryc4n4ry"


pytestmark = pytest.mark.usefixtures("restored_logging")


def written(stream: io.StringIO) -> list[dict[str, object]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_an_event_is_one_line_of_json():
    stream = io.StringIO()
    configure_logging("info", "auto", stream=stream)
    get_logger("relay.registry").info("link.attached", node_id="nd-1", sequence=3)
    get_logger("relay.registry").debug("unseen")
    (line,) = written(stream)
    assert line.pop("timestamp")
    assert line == {
        "event": "link.attached",
        "level": "info",
        "logger": "relay.registry",
        "node_id": "nd-1",
        "sequence": 3,
    }


@pytest.mark.parametrize("log_format", ["json", "console"])
def test_no_canary_gets_through(log_format):
    stream = io.StringIO()
    configure_logging("debug", log_format, stream=stream)
    log = get_logger("relay")
    log.info("call", token=CANARY, headers={"Proxy-Authorization": f"Bearer {CANARY}"}, secret_thing=Secret(CANARY))
    log.info(" ".join(["Bearer", CANARY]))
    logging.getLogger("foreign.library").error("failed with %s", f"Bearer {CANARY}")
    try:
        raise ValueError(f"Bearer {CANARY}")
    except ValueError:
        log.exception("oops")
        logging.getLogger("foreign.library").exception("oops")
    assert "oops" in stream.getvalue()
    assert CANARY not in stream.getvalue()


def test_foreign_libraries_are_routed_and_quietened():
    stream = io.StringIO()
    configure_logging("info", "json", stream=stream)
    logging.getLogger("some.library").info("hello %s", "there")
    logging.getLogger("aiohttp.access").info("GET /")
    (line,) = written(stream)
    assert (line["event"], line["logger"], line["level"]) == ("hello there", "some.library", "info")


def test_the_console_form_is_for_people():
    stream = io.StringIO()
    configure_logging("info", "console", stream=stream)
    get_logger("relay").warning("link.lost", node="vm-1\x1b[31m")
    assert "link.lost" in stream.getvalue()
    assert "\x1b" not in stream.getvalue()
