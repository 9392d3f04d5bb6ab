import gc
import os
import subprocess
import sys
import weakref
from pathlib import Path

import pytest

from certs.tls_policy import anonymous_client_context
from tests.support.identities import IdentityKit
from trunkline.runtime.loading import loading

CONTEXTS = """
import gc, ssl, sys
from trunkline.cli.main import main
main(["command", "--help"])
made = [known for known in gc.get_objects() if isinstance(known, ssl.SSLContext)]
print("aiohttp" in sys.modules, len(made) > 0, sum(len(context.get_ca_certs()) for context in made))
"""


class Knot:
    def __init__(self) -> None:
        self.itself = self


@pytest.fixture(scope="module")
def ca_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return IdentityKit(tmp_path_factory.mktemp("kit")).ca_file


def load_in_vain() -> None:
    with loading():
        assert not gc.isenabled()
        raise ImportError


@pytest.mark.parametrize("before", [None, "/etc/own.pem"])
def test_the_environment_and_the_collector_are_afterwards_as_they_were(
    before: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SSL_CERT_DIR", raising=False)
    monkeypatch.delenv("SSL_CERT_FILE", raising=False)
    if before is not None:
        monkeypatch.setenv("SSL_CERT_FILE", before)
    assert gc.isenabled()
    with pytest.raises(ImportError):
        load_in_vain()
    assert gc.isenabled()
    assert os.environ.get("SSL_CERT_FILE") == before
    assert "SSL_CERT_DIR" not in os.environ


def test_a_collector_that_rested_before_rests_on() -> None:
    gc.disable()
    try:
        with loading():
            pass
        assert not gc.isenabled()
    finally:
        gc.enable()


def test_what_was_loaded_is_old_and_is_collected_as_what_is_old() -> None:
    with loading():
        loaded = Knot()
    assert all(known is not loaded for known in gc.get_objects(generation=0))
    assert any(known is loaded for known in gc.get_objects(generation=2))
    assert gc.get_freeze_count() == 0
    gone = weakref.ref(loaded)
    del loaded
    gc.collect()
    assert gone() is None


def test_contexts_made_meanwhile_trust_nobody_and_later_ones_the_public_authorities_as_ever(
    ca_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(ca_file))
    with loading():
        meanwhile = anonymous_client_context()
    assert meanwhile.get_ca_certs() == []
    assert len(anonymous_client_context().get_ca_certs()) == 1


def test_a_command_is_loaded_without_the_authorities_of_the_machine(ca_file: Path) -> None:
    environment = os.environ | {"SSL_CERT_FILE": str(ca_file)}
    finished = subprocess.run(
        [sys.executable, "-c", CONTEXTS], env=environment, capture_output=True, text=True, check=True, timeout=30
    )
    assert finished.stdout.splitlines()[-1] == "True True 0"
