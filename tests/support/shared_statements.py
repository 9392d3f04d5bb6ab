"""SQL that is compiled once for all databases of a test process: each test has its own, and asks the same of it."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import event
from sqlalchemy.engine import Connection, Dialect, Engine


@contextmanager
def shared_statements() -> Iterator[None]:
    """Let all engines of a driver share a dialect and what it has compiled, while the block lasts.

    Errors are heard of by listeners of the dialect: engines whose errors somebody listens to have one of their own.
    """
    dialects: dict[tuple[str, bool], Dialect] = {}
    compiled: dict[Any, Any] = {}

    def share(connection: Connection) -> None:
        engine = connection.engine
        dialect = dialects.setdefault((engine.driver, bool(engine.dialect.dispatch.handle_error)), engine.dialect)
        if engine.dialect is not dialect or "compiled_cache" not in engine.get_execution_options():
            engine.dialect = connection.dialect = dialect
            engine.update_execution_options(compiled_cache=compiled)
            connection.execution_options(compiled_cache=compiled)

    event.listen(Engine, "engine_connect", share)
    try:
        yield
    finally:
        event.remove(Engine, "engine_connect", share)
