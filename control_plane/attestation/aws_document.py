"""AWS instance identity documents, signed by the region in which the instance runs (the `rsa2048` form, CMS).

The certificates of the regions are self-signed, published by AWS in its documentation, and pinned in the settings, one
file a region: the document's own region says which certificate must have signed it, and a certificate that came along
in the message counts for nothing.

https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/verify-rsa2048.html
"""

import base64
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cryptography import x509

from certs.encoding import strict_json_object
from certs.errors import CertificateError
from control_plane.attestation.cms import SignedContent, read_signed
from control_plane.attestation.refusals import bad_evidence, not_allowed

_DEPTH = 4
_ACCOUNT = re.compile(r"[0-9]{12}", re.ASCII)
_INSTANCE = re.compile(r"i-(?:[0-9a-f]{8}|[0-9a-f]{17})", re.ASCII)
_REGION = re.compile(r"[a-z]{2,3}(?:-[a-z]+){1,3}-[0-9]{1,2}", re.ASCII)


@dataclass(frozen=True, slots=True)
class InstanceDocument:
    """What a document says."""

    account: str
    region: str
    instance_id: str


def read_instance_document(text: str, certificates: Mapping[str, Sequence[x509.Certificate]]) -> InstanceDocument:
    """Verify a document (base64, line breaks allowed, as the metadata service has it) by its region's certificates.

    Raises:
        AttestationRefused: it is malformed, of a region without a certificate here, or not signed by its region.
    """
    pinned = [certificate for of_region in certificates.values() for certificate in of_region]
    try:
        message = base64.b64decode("".join(text.split()), validate=True)
        signed = read_signed(message, known=pinned)
        claims = strict_json_object(signed.content, max_depth=_DEPTH)
    except (CertificateError, ValueError) as error:
        raise bad_evidence(f"the instance identity document is refused: {error}") from None
    document = InstanceDocument(
        _text(claims, "accountId", _ACCOUNT), _text(claims, "region", _REGION), _text(claims, "instanceId", _INSTANCE)
    )
    _check_signer(signed, document.region, certificates)
    return document


def _check_signer(signed: SignedContent, region: str, certificates: Mapping[str, Sequence[x509.Certificate]]) -> None:
    if region not in certificates:
        raise not_allowed(f"there is no certificate for the region {region!r} in [bootstrap.aws] certificate_files")
    if signed.signer not in certificates[region]:
        raise bad_evidence("the instance identity document is not signed by its region")


def _text(claims: dict[str, Any], name: str, form: re.Pattern[str]) -> str:
    value = claims.get(name)
    if not isinstance(value, str) or not form.fullmatch(value):
        raise bad_evidence(f"the instance identity document's {name} is missing or malformed")
    return value
