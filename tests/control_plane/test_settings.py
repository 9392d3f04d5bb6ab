"""What the settings refuse beyond what their types say."""

import inspect
import sys
from pathlib import Path

import asyncpg  # type: ignore[import-untyped]
import pytest

from control_plane.settings import SERVER_OPTIONS, ControlPlaneSettings
from trunkline.runtime.settings import SettingsError, load_settings


def with_database(directory: Path, url: str) -> ControlPlaneSettings:
    environment = {
        "TRUNKLINE_CONTROL_PLANE__STATE_DIRECTORY": str(directory),
        "TRUNKLINE_CONTROL_PLANE__DATABASE__URL": url,
    }
    return load_settings(ControlPlaneSettings, None, environment, prefix="TRUNKLINE_CONTROL_PLANE")


def test_postgresql_without_its_driver_is_told_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "asyncpg", None)
    with pytest.raises(SettingsError, match="pip install asyncpg"):
        with_database(tmp_path, "postgresql+asyncpg://trunkline@db.example/trunkline")


def test_what_stands_behind_a_url_of_postgresql_is_what_its_driver_takes(tmp_path: Path) -> None:
    url = "postgresql+asyncpg://trunkline@db.example/trunkline?passfile=/etc/trunkline/pgpass&ssl=verify-full"
    assert with_database(tmp_path, url).database_url == url
    taken = set(inspect.signature(asyncpg.connect).parameters) | {"prepared_statement_cache_size"}
    assert set(SERVER_OPTIONS) <= taken


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ("sslmode=require", "sslmode is nothing .* is ssl here"),
        ("ssl=require&sslrootcert=/roots.pem", "PGSSLROOTCERT in the environment"),
        ("ssl=verfy-full", "ssl=verfy-full is none of"),
        ("ssl=", "ssl= is none of"),
    ],
)
def test_what_the_driver_of_postgresql_does_not_take_is_told_before_the_start(
    tmp_path: Path, options: str, told: str
) -> None:
    with pytest.raises(SettingsError, match=told):
        with_database(tmp_path, f"postgresql+asyncpg://trunkline@db.example/trunkline?{options}")
