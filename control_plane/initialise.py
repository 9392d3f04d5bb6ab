"""`init`: making what a control plane needs once: the authority, the token key, the database, the operator token.

Each part is made only if it is missing, so that `init` may be run again: after an interruption it goes on, and where
only the operator token's file was removed it makes a new token, which ends the old one.
"""

import secrets
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from certs.errors import CertificateError
from certs.keyfiles import read_secret, write_secret
from control_plane.secrets.file_keys import FileKeyEncryption
from control_plane.settings import ControlPlaneSettings
from control_plane.signing.beginning import begin_signers
from control_plane.signing.in_force import SignersInForce, write_roots
from control_plane.signing.key_stores import key_stores
from control_plane.storage import accounts
from control_plane.storage.audit import Actor, Happening, append
from control_plane.storage.database import Database
from control_plane.storage.errors import StorageError, for_the_log
from control_plane.storage.migrate import migrate
from control_plane.storage.sole_use import used_alone
from trunkline.runtime.clock import Clock, SystemClock
from trunkline.runtime.daemon import EXIT_CANNOT_CREATE, Daemon, StartError, run_daemon
from trunkline.runtime.files import StateDirectory
from trunkline.runtime.logs import get_logger

FORMAT_NAME = "trunkline-control-plane 1"
LOCAL = Actor("local/init")


def run_init(daemon: Daemon[ControlPlaneSettings], argv: Sequence[str]) -> int:
    """Run `init --config FILE`; the settings are those of the daemon."""
    initialising = replace(
        daemon,
        name=f"{daemon.name} init",
        serve=initialise,
        epilog="It makes what is missing and changes nothing that is there, so it may be run again.",
    )
    return run_daemon(initialising, argv)


async def initialise(settings: ControlPlaneSettings) -> None:
    """Make whatever is missing, and say where the operator token and the roots are.

    Raises:
        StartError: something cannot be made.
    """
    clock = SystemClock()
    with StateDirectory(settings.state_directory, format_name=FORMAT_NAME):
        try:
            FileKeyEncryption(settings.secret_keys_file)
            await _prepare_database(settings, clock)
        except (CertificateError, StorageError, LookupError, OSError) as error:
            raise StartError(f"init failed, nothing was damaged: {for_the_log(error)}", EXIT_CANNOT_CREATE) from None
    sys.stdout.write(f"operator token: {settings.operator_token_file}\nroots: {settings.ca_file}\n")


async def _prepare_database(settings: ControlPlaneSettings, clock: Clock) -> None:
    wait_seconds = settings.database.query_timeout_seconds
    async with used_alone(settings.database_url, wait_seconds, get_logger("control_plane.database")) as database:
        await migrate(database)
        await _add_account(database, clock)
        stores = key_stores(settings)
        await begin_signers(database, settings, stores, clock.now(), make=True)
        signers = SignersInForce(database=database, settings=settings, stores=stores, clock=clock)
        await signers.load()
        write_roots(settings, signers.seats)
        await _add_operator(database, settings, clock)


async def _add_account(database: Database, clock: Clock) -> None:
    now = clock.now()
    async with database.write() as session:
        if await accounts.find_account(session) is None:
            account = accounts.add_account(session, int(now * 1000))
            await session.flush()
            append(session, now, LOCAL, Happening("account.create", resource=account.account_id))


async def _add_operator(database: Database, settings: ControlPlaneSettings, clock: Clock) -> None:
    now = clock.now()
    async with database.write() as session:
        if _is_current(settings.operator_token_file, await accounts.operators(session)):
            return
        token = f"tlo-{secrets.token_urlsafe(32)}"
        operator_id = await accounts.replace_operator(session, token, int(now * 1000))
        append(session, now, LOCAL, Happening("operator.create", resource=operator_id))
        # The file before the commit: a token that is in the file only is replaced by the next `init`.
        write_secret(settings.operator_token_file, f"{token}\n".encode())


def _is_current(path: Path, operators: Mapping[str, str]) -> bool:
    return path.exists() and accounts.token_hash(read_secret(path).decode("ascii", "replace").strip()) in operators
