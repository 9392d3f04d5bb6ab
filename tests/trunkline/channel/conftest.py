"""Which event loops the channel's tests run on."""

import asyncio
from collections.abc import Callable, Mapping

import pytest

from trunkline.runtime.loop import loop_factory


def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]] | None:
    """Both loops for the modules that say `BOTH_LOOPS = True`: those that open sockets."""
    if not getattr(getattr(item, "module", None), "BOTH_LOOPS", False):
        return None
    return {"asyncio": asyncio.new_event_loop, "fast": loop_factory("auto")}
