"""Signed GetCallerIdentity requests: the documented signature, and nothing in it that could be another request."""

import hashlib
import hmac
from dataclasses import replace

import pytest

from certs.caller_identity import (
    BODY,
    RoleCredentials,
    check_caller_identity,
    request_headers,
    sign_caller_identity,
    sts_host,
)
from certs.errors import TokenError

NOW = 1_440_938_160.0  # 2015-08-30 12:36:00 UTC
CREDENTIALS = RoleCredentials(
    "ASIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY", "AQoDYXdzEPT//token=="
)
HOST = "sts.eu-central-1.amazonaws.com"
NONCE = "0123456789abcdef" * 2


def signed(**changes):
    asked = {"region": "eu-central-1", "host": HOST, "nonce": NONCE, "now": NOW}
    return sign_caller_identity(CREDENTIALS, **{**asked, **changes})


def test_the_signature_is_that_of_the_documented_steps():
    """The steps of AWS's guide written out by hand, for the request as it goes over the wire."""
    made = signed()
    headers = request_headers(made, region="eu-central-1", host=HOST, nonce=NONCE)
    names = headers["Authorization"].partition("SignedHeaders=")[2].partition(",")[0]
    lowered = {name.lower(): value for name, value in headers.items()}
    lines = [f"{name}:{lowered[name]}\n" for name in names.split(";")]
    canonical = f"POST\n/\n\n{''.join(lines)}\n{names}\n{hashlib.sha256(BODY).hexdigest()}"
    scope = "20150830/eu-central-1/sts/aws4_request"
    to_sign = f"AWS4-HMAC-SHA256\n20150830T123600Z\n{scope}\n{hashlib.sha256(canonical.encode()).hexdigest()}"
    key = b"AWS4" + CREDENTIALS.secret_access_key.encode()
    for part in ("20150830", "eu-central-1", "sts", "aws4_request"):
        key = hmac.new(key, part.encode(), hashlib.sha256).digest()
    assert made.signature == hmac.new(key, to_sign.encode(), hashlib.sha256).hexdigest()
    assert headers["Authorization"].startswith(f"AWS4-HMAC-SHA256 Credential=ASIAIOSFODNN7EXAMPLE/{scope}, ")
    assert headers["X-Trunkline-Nonce"] == NONCE
    assert {"host", "x-trunkline-nonce", "x-amz-security-token"} <= set(names.split(";"))


@pytest.mark.parametrize(
    "changes", [{"nonce": "f" * 32}, {"host": "sts.amazonaws.com"}, {"region": "us-east-1"}, {"now": NOW + 1}]
)
def test_every_part_is_signed(changes):
    assert signed(**changes).signature != signed().signature


def test_nothing_secret_shows():
    assert CREDENTIALS.secret_access_key not in repr(CREDENTIALS)
    assert signed().signature not in repr(signed())
    assert CREDENTIALS.session_token not in repr(signed())


def test_what_is_fresh_and_well_formed():
    check_caller_identity(signed(), NOW + 299)
    check_caller_identity(signed(), NOW - 299)


@pytest.mark.parametrize(
    "changes",
    [
        {"date": "20150830T123600"},
        {"date": "20159930T123600Z"},
        {"access_key_id": "AKIAIOSFODNN7EXAMPLE"},
        {"access_key_id": "ASIAIOSFODNN7EXAMPLE/20150830"},
        {"session_token": "short"},
        {"session_token": "x" * 20 + "\r\nHost: evil"},
        {"session_token": "x" * 9000},
        {"signature": "0" * 63},
        {"signature": "0" * 64 + "\n"},
        {"signature": "G" * 64},
    ],
)
def test_what_is_malformed(changes):
    with pytest.raises(TokenError):
        check_caller_identity(replace(signed(), **changes), NOW)


@pytest.mark.parametrize("seconds", [301, -301])
def test_what_was_signed_at_another_time(seconds):
    with pytest.raises(TokenError, match="clocks"):
        check_caller_identity(signed(), NOW + seconds)


@pytest.mark.parametrize(
    ("region", "host"),
    [
        ("us-east-1", "sts.us-east-1.amazonaws.com"),
        ("us-gov-west-1", "sts.us-gov-west-1.amazonaws.com"),
        ("cn-north-1", "sts.cn-north-1.amazonaws.com.cn"),
    ],
)
def test_hosts(region, host):
    assert sts_host(region) == host


@pytest.mark.parametrize("region", ["", "evil.example/", "us-east-1.evil", "US-EAST-1", "us-east-1\n", "us_east_1"])
def test_no_host_of_somebody_elses_choice(region):
    with pytest.raises(ValueError, match="region"):
        sts_host(region)
