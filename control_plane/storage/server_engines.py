"""The engines over PostgreSQL: how their connections are made, looked at, bounded in time, and given up.

A server that hangs refuses nothing: a machine that stands still, or a network that swallows what is sent. So every wait
for it ends. The driver bounds each step (`query_timeout_seconds`), and what it gives up ends the connection, since
nobody can tell what would come on it. The server bounds statements as long, and lets go of a writer of whom it hears
nothing: else one that was cut off would keep all others waiting until its machine's keep-alives failed.

Where a standby takes over, what was connected to the server before may stay connected to what is no more than a standby
now, and to what it once wrote. So whoever finds that a server takes no writes, or that the hold of the database is not
where he writes, gives up all connections that were made until then, those of readers too: new ones go by the name.
"""

import time
from dataclasses import dataclass
from functools import partial
from typing import Any

from sqlalchemy import Connection, NullPool, event
from sqlalchemy.engine import URL, ExceptionContext
from sqlalchemy.exc import InvalidatePoolError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from control_plane.storage.errors import NO_ANSWER, StorageUnreachableError, is_read_only

WRITERS_LOCK = 0x7472756E6B6C696E
"""The key of PostgreSQL's advisory lock of writers ("trunklin"), of those of one database."""
LOOK_SECONDS = 2.0
"""For how long a connection that nobody used is waited for: a new one is made where it does not answer."""
LEAVE_SECONDS = 1.0
"""Connections are given up no more often than this, however many writers find that nothing is written."""
KEEP_ALIVES = ("tcp_keepalives_idle = 10", "tcp_keepalives_interval = 5", "tcp_keepalives_count = 3")
HOLD_LOST = "the control plane has lost its hold of the database, and takes it anew; try again"
_ON_THE_DISK = (
    "SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') = 'off'"
)
"""Nothing is acknowledged that the server would forget if it crashed, whatever its default is; stricter ones stay."""
_MADE_NOW, _MADE_AT = "made_now", "made_at"


@dataclass(frozen=True, slots=True)
class ServerWaits:
    """For how long a server is waited for: for its answer, and for another writer's end.

    `sole_use` is the key of the lock that the only control plane holds on another connection; see `sole_use.py`.
    """

    query_timeout_seconds: float
    busy_timeout_seconds: float
    sole_use: int | None = None


class Farewell:
    """Since when connections are of use: what was made before is given up when it is next asked for."""

    __slots__ = ("_at",)

    def __init__(self) -> None:
        self._at = float("-inf")

    def say(self) -> None:
        """Give up all that is connected now; where that was done just now, what came after it has another try."""
        now = time.monotonic()
        if now - self._at >= LEAVE_SECONDS:
            self._at = now

    def holds_for(self, made_at: float) -> bool:
        """Whether a connection that was made then (monotonic seconds) is given up."""
        return made_at <= self._at


def server_engines(url: URL, waits: ServerWaits) -> tuple[AsyncEngine, ...]:
    """Return the engines of readers, of writers, and of migrations, which take as long as they take."""
    one_moment = {"isolation_level": "REPEATABLE READ", "postgresql_readonly": True}
    farewell = Farewell()
    reader = _hurried(url, waits, farewell, execution_options=one_moment)
    writer = _hurried(url, waits, farewell, idle_is_lost=True)
    migrator = create_async_engine(url, poolclass=NullPool, connect_args={"timeout": waits.query_timeout_seconds})
    event.listen(writer.sync_engine, "handle_error", partial(_leave, farewell))
    event.listen(migrator.sync_engine, "connect", _take_time)
    for engine in (writer, migrator):
        _take_turns(engine, waits, farewell)
    return (reader, writer, migrator)


def _hurried(
    url: URL, waits: ServerWaits, farewell: Farewell, *, idle_is_lost: bool = False, **options: Any
) -> AsyncEngine:
    """Return an engine that waits for nothing for longer than it is told."""
    seconds = waits.query_timeout_seconds
    bounds = {"timeout": seconds, "command_timeout": seconds}
    engine = create_async_engine(url, pool_timeout=seconds, connect_args=bounds, **options)
    settings = [f"statement_timeout = {round(seconds * 1000)}", *KEEP_ALIVES]
    if idle_is_lost:
        settings.append(f"idle_in_transaction_session_timeout = {round(seconds * 1000)}")
    script = "; ".join([*(f"SET {setting}" for setting in settings), _ON_THE_DISK])

    def prepare(connection: Any, record: Any) -> None:
        connection.run_async(lambda driver: driver.execute(script))
        record.info[_MADE_NOW], record.info[_MADE_AT] = True, time.monotonic()

    event.listen(engine.sync_engine, "connect", prepare)
    event.listen(engine.sync_engine, "checkout", partial(_look, min(LOOK_SECONDS, seconds), farewell))
    event.listen(engine.sync_engine, "handle_error", _tell_deadline)
    event.listen(engine.sync_engine, "close", _give_up)
    return engine


def _take_time(connection: Any, _: Any) -> None:
    """Have no statement be too long, whatever bound the server has for this role or database."""
    connection.run_async(lambda driver: driver.execute("SET statement_timeout = 0"))


def _look(timeout_seconds: float, farewell: Farewell, connection: Any, record: Any, _: Any) -> None:
    """Hand out no connection that was given up, or lost while nobody used it; with one, all that are as old go."""
    if farewell.holds_for(record.info[_MADE_AT]):
        raise InvalidatePoolError("what it is connected to takes no writes, or is not what is held")
    if record.info.pop(_MADE_NOW, False):
        return
    try:
        connection.run_async(lambda driver: driver.execute("", timeout=timeout_seconds))
    except Exception as error:
        raise InvalidatePoolError("a connection was lost") from error


def _tell_deadline(context: ExceptionContext) -> None:
    """What the driver has given up is a database that is away, and its connection is of no more use.

    Raises:
        StorageUnreachableError: in place of the driver's error.
    """
    if isinstance(context.original_exception, TimeoutError):
        context.is_disconnect = True
        raise StorageUnreachableError(NO_ANSWER)


def _leave(farewell: Farewell, context: ExceptionContext) -> None:
    """Leave a server that takes no writes."""
    if is_read_only(context.sqlalchemy_exception):
        farewell.say()


def _give_up(connection: Any, _: Any) -> None:
    """Close a connection without waiting for the server, which may not answer."""
    connection.driver_connection.terminate()


def _take_turns(engine: AsyncEngine, waits: ServerWaits, farewell: Farewell) -> None:
    """Have each transaction begin with the lock of writers, and fail if this control plane is no longer the only one.

    The only one holds the lock `sole_use` for as long as its hold; whoever gets it finds that nobody holds it any more.
    """
    wait = f"set_config('lock_timeout', '{round(waits.busy_timeout_seconds * 1000)}', true)"
    is_lost = "false" if waits.sole_use is None else f"pg_try_advisory_xact_lock_shared({waits.sole_use})"
    statement = f"SELECT {wait}, pg_advisory_xact_lock({WRITERS_LOCK}), {is_lost}"

    def take_turn(connection: Connection) -> None:
        [*_, lost] = connection.exec_driver_sql(statement).one()
        if lost:
            farewell.say()
            raise StorageUnreachableError(HOLD_LOST)

    event.listen(engine.sync_engine, "begin", take_turn)
