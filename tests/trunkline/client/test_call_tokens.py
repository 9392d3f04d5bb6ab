"""Call tokens, kept until shortly before they end."""

from __future__ import annotations

import asyncio
from pathlib import Path

from tests.support.fake_control_plane import TOKEN, fake_control_plane
from trunkline.client.call_tokens import CallTokens
from trunkline.client.control_plane import ControlPlane
from trunkline.runtime.clock import ManualClock


async def test_asked_for_once_a_set_of_scopes_and_again_before_the_end(tmp_path: Path) -> None:
    with fake_control_plane(tmp_path) as fake:
        clock = ManualClock(now=1_800_000_000.0 - 900)
        async with ControlPlane(fake.url, TOKEN, ca_file=fake.ca_file) as control_plane:
            tokens = CallTokens(control_plane.workspace("main"), "vm-1", clock=clock)
            await asyncio.gather(*(tokens.get("health:read", "port:1") for _ in range(5)))
            await tokens.get("port:1", "health:read")
            assert len(fake.requests) == 1
            await tokens.get("port:2")
            assert len(fake.requests) == 2
            clock.advance(850)
            await tokens.get("port:2")
            assert len(fake.requests) == 3
            tokens.forget()
            await tokens.get("port:2")
            assert len(fake.requests) == 4
        assert fake.requests[0][2] == {"node": "vm-1", "scopes": ["health:read", "port:1"]}
