"""Attested documents: the signer's path, its exact host name, times, and the nonce."""

import base64
import json
from datetime import UTC, datetime
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import pkcs7

from control_plane.attestation.azure_document import DocumentAnchors, read_attested_document
from control_plane.attestation.refusals import AttestationRefused
from tests.support.rsa_keys import KEY
from trunkline.sandbox.emulated_keys import make_chain

HOST = "metadata.azure.com"
NOW = datetime.now(UTC).timestamp()
NONCE = "0123456789abcdef" * 2
SUBSCRIPTION = "55555555-5555-4555-8555-555555555555"
VM = "AAAAAAAA-BBBB-4CCC-8DDD-EEEEEEEEEEEE"
SIGNER, ROOT = make_chain(KEY, HOST)
ANCHORS = DocumentAnchors((ROOT,), host=HOST)


def stamp(moment: float) -> str:
    return datetime.fromtimestamp(moment, UTC).strftime("%m/%d/%y %H:%M:%S -0000")


def document(signer: tuple[x509.Certificate, rsa.RSAPrivateKey] = (SIGNER, KEY), **changes: Any) -> str:
    claims = {
        "licenseType": "",
        "nonce": NONCE,
        "plan": {"name": "", "product": "", "publisher": ""},
        "sku": "22_04-lts",
        "subscriptionId": SUBSCRIPTION,
        "timeStamp": {"createdOn": stamp(NOW), "expiresOn": stamp(NOW + 21_600)},
        "vmId": VM,
        **changes,
    }
    kept = {name: value for name, value in claims.items() if value is not None}
    builder = pkcs7.PKCS7SignatureBuilder().set_data(json.dumps(kept).encode())
    builder = builder.add_signer(signer[0], signer[1], hashes.SHA256())
    options = [pkcs7.PKCS7Options.Binary, pkcs7.PKCS7Options.NoAttributes]
    return base64.b64encode(builder.sign(serialization.Encoding.DER, options)).decode()


def test_a_document():
    read = read_attested_document(document(), NONCE, ANCHORS, NOW)
    assert (read.vm_id, read.subscription) == (VM.lower(), SUBSCRIPTION)


@pytest.mark.parametrize(
    "changes",
    [
        {"nonce": NONCE[:-1] + "0"},
        {"nonce": None},
        {"nonce": [NONCE]},
        {"vmId": None},
        {"vmId": "x"},
        {"subscriptionId": f"{SUBSCRIPTION}/"},
        {"timeStamp": None},
        {"timeStamp": {"createdOn": stamp(NOW)}},
        {"timeStamp": {"createdOn": stamp(NOW + 120), "expiresOn": stamp(NOW + 21_600)}},
        {"timeStamp": {"createdOn": stamp(NOW - 21_600), "expiresOn": stamp(NOW - 61)}},
        {"timeStamp": {"createdOn": "yesterday", "expiresOn": stamp(NOW + 1)}},
    ],
)
def test_what_is_not_said_right(changes: dict[str, Any]):
    with pytest.raises(AttestationRefused):
        read_attested_document(document(**changes), NONCE, ANCHORS, NOW)


@pytest.mark.parametrize("name", ["westeurope.metadata.azure.com", "*.metadata.azure.com"])
def test_a_certificate_of_a_region(name: str):
    key = rsa.generate_private_key(65537, 2048)
    signer, root = make_chain(key, name)
    read = read_attested_document(document((signer, key)), NONCE, DocumentAnchors((root,), host=HOST), NOW)
    assert read.vm_id == VM.lower()


@pytest.mark.parametrize(
    "host",
    [
        "metadata.azure.com.evil.example",
        "a.region.metadata.azure.com",
        ".metadata.azure.com",
        "*.azure.com",
        "xmetadata.azure.com",
        "azure.com",
        "METADATA.AZURE.US",
    ],
)
def test_another_host_of_a_pinned_root(host: str):
    key = rsa.generate_private_key(65537, 2048)
    signer, root = make_chain(key, host.lower())
    anchors = DocumentAnchors((ROOT, root), host=HOST)
    with pytest.raises(AttestationRefused, match="not the metadata service"):
        read_attested_document(document((signer, key)), NONCE, anchors, NOW)


def test_another_root():
    key = rsa.generate_private_key(65537, 2048)
    signer, root = make_chain(key, HOST)
    with pytest.raises(AttestationRefused, match="pinned root"):
        read_attested_document(document((signer, key)), NONCE, ANCHORS, NOW)
    anchors = DocumentAnchors((ROOT,), intermediates=(root,), host=HOST)
    with pytest.raises(AttestationRefused, match="pinned root"):
        read_attested_document(document((signer, key)), NONCE, anchors, NOW)


@pytest.mark.parametrize("days", [-2, 4000])
def test_a_certificate_at_another_time(days: int):
    with pytest.raises(AttestationRefused, match="pinned root"):
        read_attested_document(document(), NONCE, ANCHORS, NOW + days * 86_400)


@pytest.mark.parametrize("text", ["", "AAAA", "not base64!", "é"])
def test_garbage(text: str):
    with pytest.raises(AttestationRefused):
        read_attested_document(text, NONCE, ANCHORS, NOW)
