"""A control plane whose authority is in a hardware module: made by `init`, rotated, and not to be had without it."""

from pathlib import Path

import pytest

from certs.errors import CertificateError
from control_plane.initialise import initialise
from control_plane.settings import ControlPlaneSettings
from control_plane.signing.key_stores import key_stores
from tests.support.control_planes import running_control_plane, settings_for
from tests.support.rotations import Rotator
from tests.support.softhsm import LABEL, needs_softhsm, pin_file, softhsm_module


def settings(directory: Path) -> ControlPlaneSettings:
    module = {"module": softhsm_module(), "token_label": LABEL, "pin_file": pin_file(directory)}
    return settings_for(directory, authority={"pkcs11": module})


@needs_softhsm
async def test_an_authority_in_a_module_is_rotated(tmp_path: Path):
    made = settings(tmp_path)
    await initialise(made)
    await initialise(made)
    assert not list(made.state_directory.rglob("*root*key*.pem"))
    async with running_control_plane(tmp_path, settings=made) as plane:
        node = await plane.node()
        rotator = Rotator(plane, "ca")
        await rotator.take("prepare")
        await rotator.report(node)
        await rotator.take("activate")
        await rotator.report(await rotator.renew(node))
        assert (await rotator.take("retire"))["phase"] == "steady"
    private = [path for path in made.state_directory.rglob("*.pem") if b"PRIVATE" in path.read_bytes()]
    assert [path.name for path in private] == ["token-key.pem"]


@needs_softhsm
def test_a_module_without_the_token_is_refused(tmp_path: Path):
    module = {"module": softhsm_module(), "token_label": "elsewhere", "pin_file": pin_file(tmp_path)}
    with pytest.raises(CertificateError, match="elsewhere"):
        key_stores(settings_for(tmp_path, authority={"pkcs11": module}))
