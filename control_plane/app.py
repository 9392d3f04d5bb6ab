"""The control plane daemon: starts, serves until it is asked to end, drains, and goes.

`main(["init", "--config", FILE])` prepares a new one; see `control_plane.initialise`. After a restore,
`main(["take-back", DOCUMENT, "--config", FILE])` gives it back what it forgot; see `control_plane.take_back`.
"""

import asyncio
import os
import random
import sys
from collections.abc import Coroutine, Mapping, Sequence
from contextlib import AsyncExitStack
from typing import Any

from certs.errors import CertificateError, KeyFileError
from control_plane.attestation.evidence import EvidenceProvider
from control_plane.attestation.providers import evidence_providers
from control_plane.composition import ControlPlane, compose
from control_plane.foundation import Foundation
from control_plane.initialise import FORMAT_NAME, run_init
from control_plane.secrets.key_encryption import KeyEncryptionError
from control_plane.settings import ControlPlaneSettings
from control_plane.settings_files import problems_with_files
from control_plane.signing.beginning import begin_signers
from control_plane.signing.in_force import SignersInForce, write_roots
from control_plane.signing.key_stores import key_stores
from control_plane.storage import accounts
from control_plane.storage.database import Database
from control_plane.storage.errors import (
    StorageBusyError,
    StorageError,
    StorageFullError,
    StorageLostError,
    StorageUnreachableError,
    for_the_log,
)
from control_plane.storage.migrate import is_migrated, migrate
from control_plane.storage.sole_use import DatabaseTakenError, SoleUse
from control_plane.take_back import run_take_back
from trunkline.runtime.admin import AdminServer
from trunkline.runtime.allocator import keep_giving_back
from trunkline.runtime.clock import SystemClock
from trunkline.runtime.daemon import EXIT_UNAVAILABLE, Daemon, StartError, run_daemon
from trunkline.runtime.daemon_metrics import daemon_registry
from trunkline.runtime.files import StateDirectory, StateDirectoryError
from trunkline.runtime.lifecycle import Lifecycle
from trunkline.runtime.logs import Logger, get_logger
from trunkline.runtime.systemd import ServiceNotifier
from trunkline.runtime.threads import started_threads

UMASK = 0o077


def main(argv: Sequence[str] | None = None) -> int:
    """Run the control plane, prepare it with `init`, or mend it with `take-back`; returns the exit code."""
    os.umask(UMASK)
    daemon = Daemon(
        name="control-plane",
        prefix="TRUNKLINE_CONTROL_PLANE",
        settings_class=ControlPlaneSettings,
        serve=serve,
        check=problems_with_files,
        epilog="`trunkline control-plane init --config FILE` prepares a new one: authority, database, operator token. "
        "`trunkline control-plane take-back DOCUMENT --config FILE` gives one that was restored what it forgot.",
    )
    arguments = list(sys.argv[1:] if argv is None else argv)
    if arguments[:1] == ["init"]:
        return run_init(daemon, arguments[1:])
    if arguments[:1] == ["take-back"]:
        return run_take_back(daemon, arguments[1:])
    return run_daemon(daemon, arguments)


async def serve(settings: ControlPlaneSettings) -> None:
    """Run the control plane until it has drained.

    Raises:
        StartError, StateDirectoryError: it cannot run; the message says what to do.
    """
    _refuse_unprepared(settings)
    log = get_logger("control_plane")
    asyncio.get_running_loop().set_default_executor(started_threads())
    with (
        StateDirectory(settings.state_directory, format_name=FORMAT_NAME),
        Lifecycle(
            state_directory=settings.state_directory,
            notifier=ServiceNotifier.from_environment(os.environ),
            log=log,
        ) as lifecycle,
    ):
        async with AsyncExitStack() as stack:
            sole_use = SoleUse(settings.database_url, log)
            stack.push_async_callback(sole_use.close)
            database = _opened(settings, sole_use)
            stack.push_async_callback(database.close)
            await _connected(database)
            lifecycle.remark("database", database.remark)
            lifecycle.remark("database_log", database.log_remark)
            await _take(sole_use)
            foundation = await _foundation(settings, database, lifecycle.drain_requested, stack)
            try:
                await foundation.signers.load()
                _tell_roots(settings, foundation.signers)
                control_plane = compose(foundation)
                stack.push_async_callback(control_plane.fleet.reach.close)
                silent_seconds = await control_plane.housekeeping.begin()
                await control_plane.rotations.begin(silent_seconds)
                await control_plane.fleet.commands.conductor.stop_outdated(silent_seconds)
                await control_plane.identities.trust.refresh()
            except (StorageFullError, StorageBusyError) as error:
                raise StateDirectoryError(str(error)) from None
            except StorageUnreachableError as error:
                raise StartError(for_the_log(error), EXIT_UNAVAILABLE) from None
            except (CertificateError, LookupError, StorageError) as error:
                raise StartError(str(error)) from None
            await _settle_secret_keys(control_plane, log)
            admin = AdminServer(
                settings.admin.address, settings.admin.port, metrics=foundation.registry, lifecycle=lifecycle
            )
            await _run(settings, control_plane, lifecycle, admin, sole_use, database)


async def _connected(database: Database) -> None:
    try:
        await database.connect()
    except (StorageFullError, StorageBusyError) as error:
        raise StateDirectoryError(str(error)) from None
    except StorageUnreachableError as error:
        raise StartError(for_the_log(error), EXIT_UNAVAILABLE) from None
    except StorageError as error:
        raise StartError(str(error)) from None


async def _run(
    settings: ControlPlaneSettings,
    control_plane: ControlPlane,
    lifecycle: Lifecycle,
    admin: AdminServer,
    sole_use: SoleUse,
    database: Database,
) -> None:
    listener = control_plane.listener
    try:
        async with admin, listener, asyncio.TaskGroup() as group:
            tasks = [
                group.create_task(work) for work in (*_work(control_plane, lifecycle), _keep(sole_use), _end(database))
            ]
            lifecycle.on_reload(control_plane.identities.own.reload)
            host = settings.identity.dns_names[0]
            lifecycle.started(url=f"https://{host}:{listener.port}", admin_url=admin.url)
            await lifecycle.drain_requested.wait()
            listener.stop_accepting()
            await lifecycle.within_drain(listener.drain(), settings.limits.drain_seconds)
            for task in tasks:
                task.cancel()
    except OSError as error:
        where = f"{settings.listen.address}:{settings.listen.port}"
        reason = error.strerror or error
        raise StartError(f"cannot listen on {where}: {reason}; change [listen]", EXIT_UNAVAILABLE) from None
    await control_plane.ledger.try_to_flush()


def _work(control_plane: ControlPlane, lifecycle: Lifecycle) -> list[Coroutine[Any, Any, None]]:
    fleet = control_plane.fleet
    return [
        fleet.commands.dispatcher.run(),
        fleet.commands.conductor.run(),
        fleet.commands.keeper.run(),
        fleet.monitor.run(),
        fleet.secret_notices.run(),
        fleet.init_notices.run(),
        control_plane.identities.own.keep(),
        _keep_signers(control_plane),
        control_plane.ledger.run(),
        control_plane.housekeeping.run(),
        control_plane.removal.run(),
        control_plane.listener.sweep(),
        lifecycle.keep_watchdog(),
        keep_giving_back(),
    ]


async def _take(sole_use: SoleUse) -> None:
    """Have the database for this process alone; one that waits for another to end is started again by its unit."""
    try:
        await sole_use.take()
    except (DatabaseTakenError, StorageUnreachableError) as error:
        raise StartError(for_the_log(error), EXIT_UNAVAILABLE) from None
    except StorageError as error:
        raise StartError(str(error)) from None


async def _keep(sole_use: SoleUse) -> None:
    """Keep the database to this process.

    Raises:
        StartError: another control plane has taken it, while it was away from this one.
    """
    try:
        await sole_use.keep()
    except DatabaseTakenError as error:
        raise StartError(str(error), EXIT_UNAVAILABLE) from None


async def _end(database: Database) -> None:
    """End with the database; what is put into its place meanwhile is to be started with.

    Raises:
        StartError: it is lost.
    """
    await database.lost.wait()
    raise StartError(
        f"{StorageLostError()}: restore the backup, with every control plane on it stopped (docs/operations.md)",
        EXIT_UNAVAILABLE,
    )


def _tell_roots(settings: ControlPlaneSettings, signers: SignersInForce) -> None:
    try:
        write_roots(settings, signers.seats)
    except KeyFileError as error:
        raise StateDirectoryError(str(error)) from None


async def _settle_secret_keys(control_plane: ControlPlane, log: Logger) -> None:
    """Finish a rotation that was interrupted; what cannot be finished is no reason not to serve everything else."""
    try:
        await control_plane.secrets.rotation.settle()
    except (KeyEncryptionError, StorageError) as error:
        log.error("secrets.keys_not_settled", reason=str(error), consequence="secrets may be unreadable")


async def _keep_signers(control_plane: ControlPlane) -> None:
    """Follow the signers; one that finds itself without their keys must end, not go on with old ones.

    Raises:
        StartError: another control plane has rotated them.
    """
    try:
        await control_plane.rotations.keep()
    except (CertificateError, LookupError) as error:
        raise StartError(
            f"another control plane has changed the signers, and this state directory is not the one that has their "
            f"keys: {error}"
        ) from None


def _opened(settings: ControlPlaneSettings, sole_use: SoleUse) -> Database:
    try:
        return Database(
            settings.database_url,
            query_timeout_seconds=settings.database.query_timeout_seconds,
            sole_use=sole_use.key,
        )
    except StorageError as error:
        raise StartError(str(error)) from None


def _refuse_unprepared(settings: ControlPlaneSettings) -> None:
    try:
        prepared = settings.authority_directory.exists()
    except PermissionError:
        return  # opening the state directory says what to do
    if not prepared:
        raise StartError(_authority_lost(settings) if settings.ca_file.exists() else _not_initialised(settings))


def _not_initialised(settings: ControlPlaneSettings) -> str:
    directory = settings.state_directory
    return f"nothing is initialised in {directory}: run `trunkline control-plane init --config FILE` first"


def _authority_lost(settings: ControlPlaneSettings) -> str:
    """Why no start is possible: `init` writes the roots once it has made the authority, so that there was one."""
    return (
        f"{settings.authority_directory} is missing: put it back from the backup that the database belongs to; "
        "this control plane was initialised before, and relays and nodes trust no other authority"
    )


def _database_lost(settings: ControlPlaneSettings) -> str:
    """Why no start is possible: `init` makes the authority last, so that an empty database beside it was another."""
    return (
        f"the database is empty, and {settings.authority_directory} is not: restore the backup, or look at "
        "[database]; `trunkline control-plane init` would begin anew, without any node, relay or revocation"
    )


async def _foundation(
    settings: ControlPlaneSettings, database: Database, draining: asyncio.Event, stack: AsyncExitStack
) -> Foundation:
    try:
        if not await is_migrated(database):
            raise StartError(_database_lost(settings))
        await migrate(database)
        async with database.read() as session:
            account = await accounts.find_account(session)
            operators = await accounts.operators(session)
        if account is None or not operators:
            raise StartError(_not_initialised(settings))
        clock = SystemClock()
        stores = key_stores(settings)
        await begin_signers(database, settings, stores, clock.now(), make=False)
    except (StorageFullError, StorageBusyError) as error:
        raise StateDirectoryError(str(error)) from None  # passes without an operator's hand at the settings
    except StorageUnreachableError as error:
        raise StartError(for_the_log(error), EXIT_UNAVAILABLE) from None
    except (StorageError, CertificateError) as error:
        raise StartError(str(error)) from None
    return Foundation(
        settings=settings,
        database=database,
        signers=SignersInForce(database=database, settings=settings, stores=stores, clock=clock),
        stores=stores,
        account_id=account.account_id,
        page_key=account.page_key,
        operators=operators,
        providers=await _providers(settings, stack, clock),
        registry=daemon_registry(),
        clock=clock,
        rng=random.SystemRandom(),
        draining=draining,
    )


async def _providers(
    settings: ControlPlaneSettings, stack: AsyncExitStack, clock: SystemClock
) -> Mapping[str, EvidenceProvider]:
    try:
        return await evidence_providers(settings.bootstrap, stack, clock)
    except CertificateError as error:
        raise StartError(str(error)) from None
