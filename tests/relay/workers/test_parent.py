from pathlib import Path

from relay.settings import LimitsSettings, RelaySettings
from relay.workers.parent import DIVIDED, settings_of_worker


def settings(tmp_path: Path, **limits: int) -> RelaySettings:
    return RelaySettings(
        state_directory=tmp_path,
        workers=3,
        control_plane={"url": "https://localhost:1"},  # type: ignore[arg-type]
        limits=limits,  # type: ignore[arg-type]
    )


def test_each_worker_has_its_part_of_what_is_divided_and_the_rest_as_it_is(tmp_path: Path) -> None:
    whole = settings(tmp_path, max_connections=100, max_handshakes=1, max_streams_per_link=10)
    part = settings_of_worker(whole)
    assert (part.limits.max_connections, part.limits.max_handshakes) == (34, 1)
    for name, value in whole.limits.model_dump().items():
        if name not in DIVIDED:
            assert getattr(part.limits, name) == value


def test_a_worker_reads_the_settings_that_its_parent_writes(tmp_path: Path) -> None:
    least = {
        name: next(bound.ge for bound in LimitsSettings.model_fields[name].metadata if hasattr(bound, "ge"))
        for name in DIVIDED
    }
    assert least == DIVIDED
    part = settings_of_worker(settings(tmp_path, **least))
    assert RelaySettings(**part.model_dump(mode="json", exclude_none=True)) == part
