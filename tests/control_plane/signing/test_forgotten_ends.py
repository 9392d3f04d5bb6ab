"""A restored database ends again the signers that had ended since the backup, by the document that somebody holds."""

import shutil
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from certs.jose import parse_compact
from certs.trust import TrustDocument, sign_trust_document, verify_trust_document
from control_plane.settings import ControlPlaneSettings
from control_plane.take_back import take_back
from tests.support.control_planes import RunningControlPlane, running_control_plane, settings_for
from tests.support.rotations import Rotator
from trunkline.runtime.clock import SystemClock
from trunkline.runtime.daemon import StartError

HELD = "/api/2.0/trust-document/held"
LATER_SECONDS = 30.0

Lost = Callable[[RunningControlPlane], Awaitable[None]]


class LaterClock(SystemClock):
    """What happens after the backup happens half a minute later."""

    def now(self) -> float:
        return super().now() + LATER_SECONDS


@pytest.fixture(autouse=True)
def no_margin(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("control_plane.rotation.progress.IN_FLIGHT_MARGIN_SECONDS", -0.5)


@pytest.fixture
def settings(tmp_path: Path) -> ControlPlaneSettings:
    return settings_for(tmp_path, commands={"call_timeout_seconds": 0.5})


async def lose(tmp_path: Path, settings: ControlPlaneSettings, before: Lost, after: Lost) -> Path:
    """Back up after `before`, lose `after`, restore; return the file of a machine that holds what was lost."""
    async with running_control_plane(tmp_path, settings=settings) as plane:
        await before(plane)
    shutil.copytree(tmp_path / "state", tmp_path / "backup")
    held = tmp_path / "trust-document.jws"
    async with running_control_plane(tmp_path, settings=settings, clock=LaterClock()) as plane:
        await after(plane)
        held.write_text(plane.control_plane.identities.trust.text)
    shutil.rmtree(tmp_path / "state")
    (tmp_path / "backup").rename(tmp_path / "state")
    return held


async def nothing(plane: RunningControlPlane) -> None:
    pass


async def revoke_key(plane: RunningControlPlane) -> None:
    key = await Rotator(plane, "signing-key").active()
    await plane.ok("POST", f"{plane.account}/signing-keys/{key}/revoke", {"reason": "it was on a laptop"})


def rotate(kind: str, *steps: str) -> Lost:
    async def take(plane: RunningControlPlane) -> None:
        for step in steps:
            await Rotator(plane, kind).take(step)

    return take


def published(plane: RunningControlPlane) -> TrustDocument:
    roots = plane.foundation.signers.seats.roots
    return verify_trust_document(plane.control_plane.identities.trust.text, roots, plane.foundation.clock.now())


async def active(plane: RunningControlPlane, kind: str = "signing-key") -> str:
    return await Rotator(plane, kind).active()


async def test_a_signing_key_that_was_revoked_since_is_not_trusted_again(tmp_path, settings):
    relays, keys = [], []

    async def before(plane: RunningControlPlane) -> None:
        relays.append(await plane.relay())
        keys.append(await active(plane))

    held = await lose(tmp_path, settings, before, revoke_key)
    [relay], [key] = relays, keys
    async with running_control_plane(tmp_path, settings=settings, clock=LaterClock()) as plane:
        node = await plane.node()
        assert await active(plane) == key
        stale = published(plane).sequence
        await plane.ok("POST", HELD, {"trust_document": held.read_text()}, identity=relay.identity)
        after = published(plane)
        assert after.sequence > stale
        assert [one.key_id for one in after.token_keys] == [await active(plane)]
        assert key not in after.retirement.left_token_keys
        assert key != await active(plane)
        token = await plane.ok("POST", "/api/2.0/nodes/self/listen-token", {}, identity=node.identity)
        assert parse_compact(token["listen_token"]).key_id == await active(plane)
        assert not plane.settings.token_key_file.exists()
        [event] = await plane.audit(action="trust_document.take_back")
        assert event["details"]["signers"] == [key]
        # The key that was made since is not proved ended by the same document.
        again = await plane.ok("POST", HELD, {"trust_document": held.read_text()}, identity=relay.identity)
        assert again["sequence"] == after.sequence


async def test_a_signing_key_that_was_left_since_is_left_again(tmp_path, settings, capsys):
    held = await lose(tmp_path, settings, nothing, rotate("signing-key", "prepare", "activate", "retire"))
    await take_back(held, settings)
    assert "1 ended signers" in capsys.readouterr().out
    async with running_control_plane(tmp_path, settings=settings, clock=LaterClock()) as plane:
        after = published(plane)
        assert [one.key_id for one in after.token_keys] == [await active(plane)]
        assert len(after.retirement.left_token_keys) == 1


@pytest.mark.parametrize("kind", ["ca", "signing-key"])
@pytest.mark.parametrize(
    ("before", "after", "heir"),
    [
        (("prepare",), ("activate", "retire"), "candidate"),
        (("prepare", "activate"), ("retire",), "candidate"),
        (("prepare",), ("rollback",), "incumbent"),
        (("prepare", "activate"), ("rollback", "retire"), "incumbent"),
    ],
)
async def test_a_rotation_that_has_ended_since_ends_the_same(tmp_path, settings, kind, before, after, heir):
    seats = {}

    async def begin(plane: RunningControlPlane) -> None:
        await rotate(kind, *before)(plane)
        seats.update({one["seat"]: one["signer_id"] for one in (await Rotator(plane, kind).look())["signers"]})

    held = await lose(tmp_path, settings, begin, rotate(kind, *after))
    await take_back(held, settings)
    async with running_control_plane(tmp_path, settings=settings, clock=LaterClock()) as plane:
        seen = await Rotator(plane, kind).look()
        assert (seen["phase"], seen["step"]) == ("steady", "take-back")
        assert [one["signer_id"] for one in seen["signers"]] == [seats[heir]]
        await Rotator(plane, kind).take("prepare")


async def test_a_backup_of_before_the_authority_was_retired_is_refused(tmp_path, settings):
    """The document is signed under the new root, and verified by the cross certificate that goes along."""
    held = await lose(tmp_path, settings, nothing, rotate("ca", "prepare", "activate", "retire"))
    with pytest.raises(StartError, match="nothing was taken back: the authority of this database was retired since"):
        await take_back(held, settings)


async def test_a_document_under_a_new_root_is_taken_back_by_its_cross_certificate(tmp_path, settings, capsys):
    async def after(plane: RunningControlPlane) -> None:
        await rotate("ca", "prepare", "activate")(plane)
        await plane.ok("POST", "/api/2.0/revocations", {"kind": "token", "id": "lost"})

    held = await lose(tmp_path, settings, nothing, after)
    await take_back(held, settings)
    assert "taken back: 1 revocations, 0 locks, 0 ended signers" in capsys.readouterr().out
    async with running_control_plane(tmp_path, settings=settings, clock=LaterClock()) as plane:
        assert set(published(plane).revocations.token_ids) == {"lost"}
        assert len(published(plane).roots) == 1


async def test_a_document_under_a_root_that_was_left_is_refused(tmp_path, settings):
    """Whoever stole the key of an authority that was retired could revoke everything by it."""
    thieves = []

    async def steal(plane: RunningControlPlane) -> None:
        own = plane.control_plane.identities.own.svid
        lost = published(plane)
        ahead = TrustDocument(
            trust_domain=lost.trust_domain,
            sequence=lost.sequence + 100,
            issued_at=lost.issued_at + 60,
            roots=lost.roots,
            token_keys=(),
        )
        thieves.append(sign_trust_document(ahead, own))
        await rotate("ca", "prepare", "activate", "retire")(plane)

    async with running_control_plane(tmp_path, settings=settings) as plane:
        await steal(plane)
    forged = tmp_path / "forged.jws"
    forged.write_text(thieves[0])
    with pytest.raises(StartError, match="nothing was taken back"):
        await take_back(forged, settings)


async def test_a_key_that_was_made_after_the_document_is_left_alone(tmp_path, settings):
    held = await lose(tmp_path, settings, nothing, revoke_key)
    async with running_control_plane(tmp_path, settings=settings, clock=LaterClock()) as plane:
        await rotate("signing-key", "prepare", "activate", "retire")(plane)
        key = await active(plane)
    await take_back(held, settings)
    async with running_control_plane(tmp_path, settings=settings, clock=LaterClock()) as plane:
        assert await active(plane) == key
