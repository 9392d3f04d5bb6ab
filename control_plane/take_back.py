"""`take-back`: telling a restored database what was published after its backup, from a trust document in a file.

Relays hand over what they hold by themselves as soon as they reach the control plane. This is for doing it before the
first of them does, or where no relay holds it any more: `trust-document.jws` in the state directory of any relay or
node agent will do, and the one with the highest number is best.
"""

import sys
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from certs.errors import CertificateError
from certs.trust import MAX_DOCUMENT_BYTES
from control_plane.errors import ApiError
from control_plane.identity.trust_recovery import Recovered, TrustRecovery
from control_plane.initialise import FORMAT_NAME
from control_plane.settings import ControlPlaneSettings
from control_plane.signing.beginning import begin_signers
from control_plane.signing.key_stores import key_stores
from control_plane.signing.seats import read_seats
from control_plane.storage.audit import Actor
from control_plane.storage.errors import StorageError, for_the_log
from control_plane.storage.migrate import migrate
from control_plane.storage.sole_use import used_alone
from trunkline.runtime.clock import SystemClock
from trunkline.runtime.daemon import EXIT_USAGE, Daemon, StartError, run_daemon
from trunkline.runtime.files import StateDirectory
from trunkline.runtime.logs import get_logger

LOCAL = Actor("local/take-back")
USAGE = "trunkline control-plane take-back DOCUMENT --config FILE [-h]"
EPILOG = (
    "DOCUMENT is a trust document that a relay or node holds, such as trust-document.jws of a relay's state directory. "
    "The control plane must not run; what is taken back is printed."
)


def run_take_back(daemon: Daemon[ControlPlaneSettings], argv: Sequence[str]) -> int:
    """Run `take-back DOCUMENT --config FILE`, while the control plane does not run; the settings are the daemon's."""
    helped = replace(daemon, usage=USAGE, epilog=EPILOG)
    if argv[:1] in (["-h"], ["--help"]):
        return run_daemon(helped, argv)
    if not argv or argv[0].startswith("-"):
        sys.stderr.write(f"trunkline control-plane: name the document first: {USAGE}\n")
        return EXIT_USAGE
    return run_daemon(replace(helped, serve=partial(take_back, Path(argv[0]))), argv[1:])


async def take_back(document: Path, settings: ControlPlaneSettings) -> None:
    """Take back what the document in this file says, and print what that was.

    Raises:
        StartError: it cannot be read, or is not genuine; or the database cannot be written.
    """
    with StateDirectory(settings.state_directory, format_name=FORMAT_NAME):
        try:
            text = _read(document)
            recovered = await _recover(text, settings)
        except (CertificateError, LookupError, StorageError, OSError, ValueError) as error:
            raise StartError(f"nothing was taken back: {for_the_log(error)}") from None
        except ApiError as error:
            raise StartError(f"nothing was taken back: {error.message}") from None
    if recovered.sequence is None:
        sys.stdout.write("nothing to take back: this database has published that document itself\n")
        return
    issued = ", and what an authority has issued that this database does not know" if recovered.authority else ""
    sys.stdout.write(
        f"taken back: {recovered.revocations} revocations, {recovered.locks} locks, "
        f"{recovered.signers} ended signers{issued}; "
        f"the next trust document has the number {recovered.sequence}\n"
    )


def _read(document: Path) -> str:
    with document.open("rb") as file:
        return file.read(MAX_DOCUMENT_BYTES + 1).decode("ascii").strip()


async def _recover(text: str, settings: ControlPlaneSettings) -> Recovered:
    log, wait_seconds = get_logger("control_plane.trust"), settings.database.query_timeout_seconds
    async with used_alone(settings.database_url, wait_seconds, log) as database:
        await migrate(database)
        clock = SystemClock()
        stores = key_stores(settings)
        await begin_signers(database, settings, stores, clock.now(), make=False)
        async with database.read() as session:
            seats = await read_seats(session, clock.now())
        recovery = TrustRecovery(
            database=database,
            roots=lambda: seats.roots,
            stores=stores,
            trust_domain=settings.identity.trust_domain,
            metrics=None,
            clock=clock,
            log=log,
        )
        return await recovery.take_back(text, LOCAL)
