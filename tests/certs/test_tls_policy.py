import ssl
from pathlib import Path

import pytest

from certs.errors import CertificateError
from certs.tls import client_context
from certs.tls_policy import anonymous_client_context
from tests.support.identities import IdentityKit


@pytest.fixture(scope="module")
def kit(tmp_path_factory: pytest.TempPathFactory) -> IdentityKit:
    return IdentityKit(tmp_path_factory.mktemp("kit"))


def test_it_trusts_what_the_file_has_and_nothing_else(kit: IdentityKit) -> None:
    context = anonymous_client_context(kit.ca_file)
    assert context.get_ca_certs(binary_form=True) == ssl_certificates(kit.ca_file)


def test_without_a_file_it_trusts_the_authorities_of_the_machine(
    kit: IdentityKit, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(kit.ca_file))
    monkeypatch.setenv("SSL_CERT_DIR", "/nowhere")
    assert anonymous_client_context().get_ca_certs(binary_form=True) == ssl_certificates(kit.ca_file)


def test_it_is_no_laxer_than_any_other(kit: IdentityKit) -> None:
    context, other = anonymous_client_context(kit.ca_file), client_context(ca_file=kit.ca_file)
    for name in ("verify_mode", "check_hostname", "verify_flags", "options", "minimum_version", "maximum_version"):
        assert getattr(context, name) == getattr(other, name)
    assert context.get_ciphers() == other.get_ciphers()
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.check_hostname


def test_a_file_that_cannot_be_used_is_refused(tmp_path: Path) -> None:
    (tmp_path / "garbage").write_text("no certificate")
    with pytest.raises(CertificateError, match="no PEM certificates"):
        anonymous_client_context(tmp_path / "garbage")
    with pytest.raises(CertificateError, match="No such file"):
        anonymous_client_context(tmp_path / "missing")


def ssl_certificates(pem_file: Path) -> list[bytes]:
    return [ssl.PEM_cert_to_DER_cert(pem_file.read_text())]
