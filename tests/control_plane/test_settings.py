"""What the settings refuse beyond what their types say."""

from importlib.util import find_spec
from pathlib import Path

import pytest

from control_plane.settings import ControlPlaneSettings
from trunkline.runtime.settings import SettingsError, load_settings


@pytest.mark.skipif(find_spec("asyncpg") is not None, reason="asyncpg is installed")
def test_postgresql_without_its_driver_is_told_what_to_install(tmp_path: Path) -> None:
    environment = {
        "TRUNKLINE_CONTROL_PLANE__STATE_DIRECTORY": str(tmp_path),
        "TRUNKLINE_CONTROL_PLANE__DATABASE__URL": "postgresql+asyncpg://trunkline@db.example/trunkline",
    }
    with pytest.raises(SettingsError, match="pip install asyncpg"):
        load_settings(ControlPlaneSettings, None, environment, prefix="TRUNKLINE_CONTROL_PLANE")
