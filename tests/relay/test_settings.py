from pathlib import Path

import pytest

from relay.settings import ENVIRONMENT_PREFIX, RelaySettings
from trunkline.runtime.settings import SettingsError, load_settings

LEAST = 'state_directory = "/var/lib/trunkline/relay"\n[control_plane]\nurl = "https://control.example:8443/"\n'


def load(tmp_path: Path, text: str, environ: dict[str, str] | None = None) -> RelaySettings:
    path = tmp_path / "relay.toml"
    path.write_text(text)
    return load_settings(RelaySettings, path, environ or {}, prefix=ENVIRONMENT_PREFIX)


def test_little_is_required(tmp_path):
    settings = load(tmp_path, LEAST)
    assert settings.control_plane.url == "https://control.example:8443"
    assert (settings.listen.address, settings.listen.port) == ("0.0.0.0", 443)
    assert settings.limits.handshake_seconds == 10.0
    assert settings.names.suffix == "trunk.internal"
    assert load(tmp_path, LEAST, {"TRUNKLINE_RELAY__LISTEN__PORT": "8443"}).listen.port == 8443


def test_all_problems_at_once(tmp_path):
    text = """
        state_directory = "/s"
        [control_plane]
        url = "http://control.example"
        ca_file = "/nowhere.pem"
        root_sha256 = "abc"
        [limits]
        head_seconds = 0
        max_link_streams = 5
        [names]
        suffix = "Trunk.Internal"
    """
    with pytest.raises(SettingsError) as caught:
        load(tmp_path, text, {"TRUNKLINE_RELAY__PORT": "1", "TRUNKLINE_RELAY__LISTEN__PORT": "http"})
    places = sorted(problem.split(": ")[0] + ": " + problem.split(": ")[1] for problem in caught.value.problems)
    assert [place.removeprefix("relay.toml: ") for place in places] == [
        "TRUNKLINE_RELAY__LISTEN__PORT: must be an integer",
        "TRUNKLINE_RELAY__PORT: matches no setting; the first part must be one of ADMIN, ADVERTISE, CERTIFICATE, "
        "CONTROL_PLANE, ENROLMENT, EVENT_LOOP, LIMITS, LISTEN, LOG, METRICS, NAMES, REPORTS, STATE_DIRECTORY, TRUST, "
        "WORKERS",
        "control_plane",
        "control_plane.ca_file",
        "control_plane.root_sha256",
        "control_plane.url",
        "limits.head_seconds",
        "limits.max_link_streams",
        "names.suffix",
    ]


def test_a_setting_of_an_earlier_release_is_to_be_removed_and_not_to_be_renamed(tmp_path):
    with pytest.raises(SettingsError) as caught:
        load(tmp_path, f"{LEAST}[limits]\nmax_head_bytes = 32768\n")
    assert caught.value.problems == [
        "relay.toml: limits.max_head_bytes: no longer a setting: remove it; a head has at most 32 KiB"
    ]
    with pytest.raises(SettingsError, match="LIMITS__MAX_HEAD_BYTES: no longer a setting"):
        load(tmp_path, LEAST, {"TRUNKLINE_RELAY__LIMITS__MAX_HEAD_BYTES": "32768"})


def test_trust_in_the_control_plane_is_of_one_kind(tmp_path):
    (tmp_path / "ca.pem").write_text("")
    text = f'{LEAST}ca_file = "{tmp_path}/ca.pem"\nroot_sha256 = "{"0" * 64}"\n'
    with pytest.raises(SettingsError, match=r"relay\.toml: control_plane: give ca_file or root_sha256, not both"):
        load(tmp_path, text)


@pytest.mark.parametrize(
    "url",
    [
        "http://a", "https://", "https://user:secret@host", "https://:secret@host", "https://@host", "https://a?b=c",
        "https://a?", "https://a#b", "https://a#", "https://a:port", "https://a:0", "https://[a", "https://a b",
        "https://a\\nb", "ftp://a", "control",
    ],
)  # fmt: skip
def test_the_control_plane_is_reached_by_https_only(tmp_path, url):
    with pytest.raises(SettingsError, match=r"control_plane\.url: must be https://host") as caught:
        load(tmp_path, LEAST.replace("https://control.example:8443/", url))
    assert "secret" not in str(caught.value)
