"""`take-back`: a restored database is given what it forgot, from a file, before it runs."""

import shutil
from pathlib import Path

import pytest

from certs.trust import verify_trust_document
from control_plane.app import main
from control_plane.initialise import FORMAT_NAME
from control_plane.settings import ControlPlaneSettings
from control_plane.take_back import take_back
from tests.support.control_planes import running_control_plane
from tests.support.identities import IdentityKit
from trunkline.runtime.daemon import StartError
from trunkline.runtime.files import StateDirectory, StateDirectoryError


@pytest.fixture
async def lost(tmp_path: Path) -> tuple[ControlPlaneSettings, Path]:
    """A restored state directory, and the file of a relay that knows more."""
    async with running_control_plane(tmp_path) as plane:
        settings = plane.settings
    shutil.copytree(tmp_path / "state", tmp_path / "backup")
    async with running_control_plane(tmp_path) as plane:
        for number in range(3):
            await plane.ok("POST", "/api/2.0/revocations", {"kind": "token", "id": f"jti-{number}"})
        held = tmp_path / "trust-document.jws"
        held.write_text(plane.control_plane.identities.trust.text)
    shutil.rmtree(tmp_path / "state")
    (tmp_path / "backup").rename(tmp_path / "state")
    return settings, held


async def test_the_next_document_has_what_was_lost(lost, tmp_path, capsys):
    settings, held = lost
    await take_back(held, settings)
    assert "taken back: 3 revocations, 0 locks, 0 ended signers" in capsys.readouterr().out
    await take_back(held, settings)
    assert "nothing to take back" in capsys.readouterr().out
    async with running_control_plane(tmp_path) as plane:
        trust = plane.control_plane.identities.trust
        before = verify_trust_document(held.read_text(), plane.authority.roots, plane.foundation.clock.now())
        now = verify_trust_document(trust.text, plane.authority.roots, plane.foundation.clock.now())
        assert now.revocations == before.revocations
        assert now.sequence > before.sequence
        [event] = await plane.audit(action="trust_document.take_back")
        assert event["actor"] == "local/take-back"


async def test_what_cannot_be_taken_back_changes_nothing(lost, tmp_path):
    settings, _ = lost
    stranger = IdentityKit(tmp_path, trust_domain=settings.identity.trust_domain)
    foreign = tmp_path / "foreign.jws"
    foreign.write_text(stranger.trust_document(99))
    garbage = tmp_path / "garbage.jws"
    garbage.write_bytes(b"\xff\xfe")
    for path in (foreign, garbage, tmp_path / "missing.jws"):
        with pytest.raises(StartError, match="nothing was taken back"):
            await take_back(path, settings)


async def test_a_control_plane_that_runs_is_left_alone(lost):
    settings, held = lost
    with (
        StateDirectory(settings.state_directory, format_name=FORMAT_NAME),
        pytest.raises(StateDirectoryError, match="another process is using it"),
    ):
        await take_back(held, settings)


@pytest.mark.parametrize("arguments", [[], ["--config", "x.toml"]])
def test_wrong_usage(arguments, capsys):
    assert main(["take-back", *arguments]) == 64
    assert "take-back DOCUMENT" in capsys.readouterr().err
