"""Trunkline: run commands on, watch, and reach machines that accept no inbound connection.

The public surface of the SDK is `ControlPlane`, `NodeSender`, `Target`, `CommandRequest`, `Rollout` and the errors
below; they are loaded when they are first used, so that importing the package costs nothing. `trunkline.client.sync`
holds the face for programs without an event loop.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from trunkline.version import __version__

if TYPE_CHECKING:
    from trunkline.client.commands import CommandRequest, Target
    from trunkline.client.control_plane import ControlPlane
    from trunkline.client.errors import ApiError, RelayRefused, TrunklineError
    from trunkline.client.node_sender import NodeSender
    from trunkline.client.rollouts import Rollout

__all__ = [
    "ApiError",
    "CommandRequest",
    "ControlPlane",
    "NodeSender",
    "RelayRefused",
    "Rollout",
    "Target",
    "TrunklineError",
    "__version__",
]

_HOMES = {
    "ApiError": "trunkline.client.errors",
    "CommandRequest": "trunkline.client.commands",
    "ControlPlane": "trunkline.client.control_plane",
    "NodeSender": "trunkline.client.node_sender",
    "RelayRefused": "trunkline.client.errors",
    "Rollout": "trunkline.client.rollouts",
    "Target": "trunkline.client.commands",
    "TrunklineError": "trunkline.client.errors",
}


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(home), name)
