"""Enrolment: a relay join token becomes an identity and the first trust document.

The key and the signing request are stored before anything is sent, so that a retry, also after a crash, asks for the
same thing: the control plane answers it again for ten minutes, and refuses any other request with that token.
"""

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from certs.chains import CertificateChain
from certs.errors import CertificateError
from certs.identities import Identity, build_csr
from certs.keyfiles import load_or_create_key, read_secret, write_secret
from relay.control_plane.client import ControlPlaneClient
from relay.identity.own_identity import IDENTITY_FILE
from relay.settings import EnrolmentSettings
from trunkline.client.control_plane_answers import ControlPlaneRefused, ControlPlaneUnreachable
from trunkline.runtime.backoff import Backoff
from trunkline.runtime.clock import Clock
from trunkline.runtime.daemon import EXIT_CONFIGURATION, EXIT_UNAVAILABLE, StartError
from trunkline.runtime.logs import Logger
from trunkline.runtime.secret import Secret

ENROL_PATH = "/api/2.0/relays/enrol"
KEY_FILE = "enrolment-key.pem"
REQUEST_FILE = "enrolment-request.pem"


class Enrolled(NamedTuple):
    """What enrolment gives."""

    identity: Identity
    trust_document: str


async def enrol(
    settings: EnrolmentSettings,
    *,
    client: ControlPlaneClient,
    state_directory: Path,
    clock: Clock,
    backoff: Backoff,
    log: Logger,
) -> Enrolled:
    """Enrol, waiting for the control plane as long as it takes. Nothing is stored yet but the request.

    Raises:
        StartError: the join token is missing or refused, or the answer makes no sense.
        KeyFileError: the key, or the request, cannot be stored or read.
    """
    token = _read_join_token(settings.join_token_file)
    key = load_or_create_key(state_directory / KEY_FILE)
    csr = _stored_request(state_directory / REQUEST_FILE, build_csr(key))
    log.info("relay.enrolling", name=settings.name)
    document = {"join_token": token.reveal(), "csr": csr, "name": settings.name}
    answer = await ask(client, "POST", ENROL_PATH, document, clock=clock, backoff=backoff, log=log)
    try:
        chain = CertificateChain.from_pem(str(answer.get("certificate_chain", "")))
        return Enrolled(Identity(key, chain), str(answer.get("trust_document", "")))
    except CertificateError as error:
        raise StartError(f"the control plane's answer to the enrolment is unusable: {error}") from None


def finish_enrolment(enrolled: Enrolled, state_directory: Path) -> None:
    """Store the identity, then remove the request that it came from.

    Raises:
        CertificateError: it cannot be stored.
    """
    enrolled.identity.write(state_directory / IDENTITY_FILE)
    (state_directory / REQUEST_FILE).unlink(missing_ok=True)
    (state_directory / KEY_FILE).unlink(missing_ok=True)


def problems_with_enrolment(settings: EnrolmentSettings, state_directory: Path) -> list[str]:
    """Name what a relay that has no identity yet lacks to enrol; one that has an identity lacks nothing."""
    if (state_directory / IDENTITY_FILE).exists():
        return []
    try:
        _read_join_token(settings.join_token_file)
    except StartError as error:
        return [str(error)]
    return []


def _read_join_token(path: Path | None) -> Secret:
    if path is None:
        raise StartError(
            "this relay has no identity yet: make a join token with `trunkline token relay`, store it in a file "
            "(mode 0600), and name the file in enrolment.join_token_file"
        )
    try:
        token = read_secret(path).decode("ascii").strip()
    except (CertificateError, UnicodeDecodeError) as error:
        raise StartError(f"enrolment.join_token_file: {error}") from None
    if not token or len(token) > 4096:
        raise StartError(f"enrolment.join_token_file: {path} holds no join token")
    return Secret(token)


def _stored_request(path: Path, fresh: str) -> str:
    if not path.exists():
        write_secret(path, fresh.encode("ascii"))
    return read_secret(path).decode("ascii", "replace")


async def ask(
    client: ControlPlaneClient,
    method: str,
    path: str,
    document: Mapping[str, Any] | None = None,
    *,
    clock: Clock,
    backoff: Backoff,
    log: Logger,
) -> dict[str, Any]:
    """Ask what the relay cannot start without, again and again until there is an answer.

    Raises:
        StartError: the control plane refuses, and would refuse again.
    """
    while True:
        try:
            return await client.call(method, path, document)
        except ControlPlaneRefused as error:
            if error.permanent:
                code = EXIT_CONFIGURATION if error.status in (400, 401, 403, 409) else EXIT_UNAVAILABLE
                raise StartError(f"the control plane refuses {path}: {error}", code) from None
            reason = str(error)
        except ControlPlaneUnreachable as error:
            reason = str(error)
        log.warning("relay.waits_for_control_plane", reason=reason)
        await asyncio.sleep(max(0.2, backoff.next_delay_seconds(clock.monotonic())))
