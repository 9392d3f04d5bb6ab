import pytest

from certs.errors import CertificateError
from certs.identities import Identity
from certs.keyfiles import write_secret
from relay.identity.own_identity import OwnIdentity, load_identity
from tests.support.identities import IdentityKit


@pytest.fixture(scope="module")
def kit(tmp_path_factory) -> IdentityKit:
    return IdentityKit(tmp_path_factory.mktemp("identities"))


async def test_a_renewed_identity_is_stored_before_it_is_used(kit: IdentityKit, tmp_path):
    path = tmp_path / "identity.pem"
    own = OwnIdentity(kit.issue_relay(), path)
    seen: list[str] = []

    def on_renewal(identity: Identity) -> None:
        stored = load_identity(tmp_path)
        assert stored is not None
        assert stored.serial == identity.serial == own.current.serial
        seen.append(identity.serial)

    own.subscribe(on_renewal)
    renewed = kit.issue_relay()
    await own.replace(renewed)
    assert seen == [renewed.serial]
    assert own.relay_id == "rl-one"


async def test_another_identity_is_no_renewal(kit: IdentityKit, tmp_path):
    own = OwnIdentity(kit.issue_relay(), tmp_path / "identity.pem")
    before = own.current
    with pytest.raises(CertificateError, match="another identity"):
        await own.replace(kit.issue_relay("rl-two"))
    assert own.current is before


async def test_an_identity_that_cannot_be_stored_is_not_used(kit: IdentityKit, tmp_path):
    own = OwnIdentity(kit.issue_relay(), tmp_path / "gone" / "identity.pem")
    before = own.current
    with pytest.raises(CertificateError, match="cannot write"):
        await own.replace(kit.issue_relay())
    assert own.current is before


def test_only_a_relay_may_be_one(kit: IdentityKit, tmp_path):
    with pytest.raises(CertificateError, match="no relay's identity"):
        OwnIdentity(kit.issue_node(), tmp_path / "identity.pem")


def test_before_enrolment_there_is_none(tmp_path):
    assert load_identity(tmp_path) is None


@pytest.mark.parametrize("content", [b"", b"\x00" * 100, b"-----BEGIN PRIVATE KEY-----\n"])
def test_a_damaged_file_says_what_to_do(tmp_path, content: bytes):
    write_secret(tmp_path / "identity.pem", content)
    with pytest.raises(CertificateError, match=r"identity.pem .*damaged; put a copy back, or remove it and enrol"):
        load_identity(tmp_path)
