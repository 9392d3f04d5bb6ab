"""Which event loops the client's tests run on."""

import asyncio
from collections.abc import Callable, Mapping

import pytest

from tests.support.virtual_time import VirtualTimeLoop


def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Virtual time for the modules that say `VIRTUAL_TIME = True`: those that open no sockets."""
    if not getattr(getattr(item, "module", None), "VIRTUAL_TIME", False):
        return {"asyncio": asyncio.new_event_loop}
    return {"virtual": VirtualTimeLoop}
