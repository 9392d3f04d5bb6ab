import pytest

from trunkline.runtime.redaction import LONGEST_TEXT, redact
from trunkline.runtime.secret import MASK, Secret

CANARY = "c4n4ryc4n4ryc4n4ryc4n4ry"


@pytest.mark.parametrize(
    "text",
    [
        f"Authorization: Bearer {CANARY}",
        f"proxy-authorization: basic {CANARY}==",
        f"got eyJhbGciOiJFUzI1NiJ9.{CANARY}.{CANARY} from a peer",
        f"-----BEGIN PRIVATE KEY-----\n{CANARY}\n-----END PRIVATE KEY-----",
        f"-----BEGIN EC PRIVATE KEY-----\n{CANARY}",
        f"enrolled with tlj-{CANARY}",
        f"postgresql://trunkline:{CANARY}@db/trunkline",
    ],
)
def test_secrets_in_text_are_masked(text):
    assert CANARY not in redact(text)
    assert MASK in redact(text)
    assert CANARY not in redact(text.encode())


@pytest.mark.parametrize(
    "key", ["token", "listen_token", "Authorization", "proxy-authorization", "password", "join_token", "private_key"]
)
@pytest.mark.parametrize("value", [CANARY, CANARY.encode(), [CANARY], {"a": CANARY}, Secret(CANARY)])
def test_what_secret_keys_name_is_masked_at_any_depth(key, value):
    assert CANARY not in str(redact(value, key=key))
    assert CANARY not in str(redact({"outer": [{key: value}]}))


def test_a_secret_is_masked_under_any_key():
    assert redact({"x": Secret(CANARY)}) == {"x": MASK}


def test_ordinary_values_stay():
    event = {"node": "vm-1", "count": 3, "ratio": 0.5, "ok": True, "nothing": None, "token_kind": "call"}
    assert redact(event) == event
    assert redact("https://relay.example:443/v1/link") == "https://relay.example:443/v1/link"
    assert redact("Basic authentication") == "Basic authentication"


def test_text_is_bounded_and_cannot_drive_a_terminal():
    assert len(redact("x" * 1_000_000)) < LONGEST_TEXT + 50
    assert redact("a\x1b[31mb\r\nc") == "a\\x1b[31mb\\x0d\\x0ac"
    assert redact("a\nb\x1b", key="exception") == "a\nb\\x1b"
    assert redact("a\u202eb\u2066c\u2028d\x9be") == "a\\u202eb\\u2066c\\u2028d\\x9be", "nothing reorders a line"


def test_containers_are_bounded():
    nested: list[object] = []
    nested.append(nested)
    assert "…" in str(redact(nested))
    assert len(redact(list(range(10_000)))) == 100
