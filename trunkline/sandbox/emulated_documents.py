"""Signed documents of the emulated clouds, in the forms of Azure's and AWS's metadata services: DEVELOPMENT ONLY."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import pkcs7

from trunkline.sandbox.emulated_keys import KEY_BITS, DocumentSigner, load_or_make_signer, make_chain
from trunkline.sandbox.emulated_machines import (
    AWS_ACCOUNT,
    AWS_REGION,
    DOCUMENT_HOST,
    SUBSCRIPTION,
    ec2_instance_id,
    vm_id,
)

DOCUMENT_SECONDS = 6 * 3_600
AZURE_SIGNER = "azure-document"
AWS_SIGNER = "aws-document"
_TIME_FORM = "%m/%d/%y %H:%M:%S -0000"


class EmulatedDocuments:
    """Signs documents with keys that are kept in a directory, and, when told to lie, with a stranger's."""

    def __init__(self, directory: Path) -> None:
        self._azure = load_or_make_signer(directory, AZURE_SIGNER, DOCUMENT_HOST)
        self._aws = load_or_make_signer(directory, AWS_SIGNER, None)
        self._foreign: DocumentSigner | None = None

    def azure(self, machine: str, nonce: str, now: float, *, foreign: bool = False) -> dict[str, str]:
        """Azure's answer: the attested document of a machine, over a nonce."""
        document = {
            "licenseType": "",
            "nonce": nonce,
            "plan": {"name": "", "product": "", "publisher": ""},
            "sku": "sandbox",
            "subscriptionId": SUBSCRIPTION,
            "timeStamp": {"createdOn": _time(now), "expiresOn": _time(now + DOCUMENT_SECONDS)},
            "vmId": vm_id(machine),
        }
        options = [pkcs7.PKCS7Options.Binary, pkcs7.PKCS7Options.NoAttributes]
        return {"encoding": "pkcs7", "signature": self._signed(document, self._azure, foreign, options)}

    def aws(self, machine: str, *, foreign: bool = False) -> str:
        """AWS's answer: the instance identity document of a machine, without the certificate, in lines of base64."""
        document = {
            "accountId": AWS_ACCOUNT,
            "architecture": "x86_64",
            "availabilityZone": f"{AWS_REGION}a",
            "billingProducts": None,
            "imageId": "ami-00000000000000042",
            "instanceId": ec2_instance_id(machine),
            "instanceType": "t3.small",
            "pendingTime": "2026-01-01T00:00:00Z",
            "privateIp": "10.0.0.42",
            "region": AWS_REGION,
            "version": "2017-09-30",
        }
        options = [pkcs7.PKCS7Options.Binary, pkcs7.PKCS7Options.NoCerts]
        text = self._signed(document, self._aws, foreign, options[:1] if foreign else options)
        return "\n".join(text[start : start + 64] for start in range(0, len(text), 64))

    def _signed(
        self, document: Mapping[str, object], signer: DocumentSigner, foreign: bool, options: list[pkcs7.PKCS7Options]
    ) -> str:
        """Sign; a foreign signer puts the genuine certificate into the bag beside its own."""
        builder = pkcs7.PKCS7SignatureBuilder().set_data(json.dumps(document).encode())
        who = self._stranger() if foreign else signer
        builder = builder.add_signer(who.certificate, who.key, hashes.SHA256())
        if foreign:
            builder = builder.add_certificate(signer.certificate)
        return base64.b64encode(builder.sign(serialization.Encoding.DER, options)).decode("ascii")

    def _stranger(self) -> DocumentSigner:
        if self._foreign is None:
            key = rsa.generate_private_key(public_exponent=65_537, key_size=KEY_BITS)
            self._foreign = DocumentSigner(key, make_chain(key, DOCUMENT_HOST)[0])
        return self._foreign


def _time(moment: float) -> str:
    return datetime.fromtimestamp(moment, UTC).strftime(_TIME_FORM)
