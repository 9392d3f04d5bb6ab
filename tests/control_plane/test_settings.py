"""What the settings refuse beyond what their types say."""

import sys
from pathlib import Path

import pytest

from control_plane.settings import ControlPlaneSettings
from trunkline.runtime.settings import SettingsError, load_settings


def test_postgresql_without_its_driver_is_told_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "asyncpg", None)
    environment = {
        "TRUNKLINE_CONTROL_PLANE__STATE_DIRECTORY": str(tmp_path),
        "TRUNKLINE_CONTROL_PLANE__DATABASE__URL": "postgresql+asyncpg://trunkline@db.example/trunkline",
    }
    with pytest.raises(SettingsError, match="pip install asyncpg"):
        load_settings(ControlPlaneSettings, None, environment, prefix="TRUNKLINE_CONTROL_PLANE")
