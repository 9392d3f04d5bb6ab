"""The settings of the control plane: what may be in its TOML file, with units, bounds and defaults."""

from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import parse_qsl, urlsplit

from pydantic import AfterValidator, Field

from control_plane.attestation_settings import BootstrapSettings
from trunkline.runtime.settings import AdminSettings, AnyPath, DaemonSettings, Port, ReadableFile, Section

DAY_SECONDS = 86_400
DATABASE_FILE = "control-plane.db"
SERVER_OPTIONS = (
    "host",
    "port",
    "user",
    "password",
    "database",
    "passfile",
    "service",
    "servicefile",
    "ssl",
    "direct_tls",
    "target_session_attrs",
    "krbsrvname",
    "gsslib",
    "prepared_statement_cache_size",
)
"""What may stand behind the `?` of a URL of PostgreSQL: what asyncpg and SQLAlchemy take there as text."""
SSL_MODES = ("prefer", "disable", "allow", "require", "verify-ca", "verify-full")


class ListenSettings(Section):
    """`[listen]`: where the API is served, over TLS; port 0 lets the system pick one."""

    address: str = "0.0.0.0"  # noqa: S104 - agents and relays come from elsewhere
    port: Port = 8443


class ControlPlaneAdmin(AdminSettings):
    """`[admin]`: the loopback endpoint."""

    port: Port = 9466


class IdentitySettings(Section):
    """`[identity]`: the trust domain, and the names that the API is reached under.

    `dns_names` are what the serving certificate from the own authority is valid for.
    """

    trust_domain: str = Field(default="trunkline.internal", pattern=r"^[a-z0-9._-]{1,255}$")
    dns_names: list[str] = Field(default=["localhost"], min_length=1, max_length=16)
    name_suffix: str = Field(default="trunk.internal", pattern=r"^[a-z0-9]([a-z0-9.-]{0,125}[a-z0-9])?$")


class TlsSettings(Section):
    """`[tls]`: a serving certificate from files, where clients do not know the own authority; reloaded at SIGHUP."""

    certificate_file: ReadableFile | None = None
    key_file: ReadableFile | None = None

    @classmethod
    def cross_check(cls, given: Mapping[str, Any]) -> None:
        """A certificate is nothing without its key."""
        if ("certificate_file" in given) != ("key_file" in given):
            raise ValueError("certificate_file and key_file come together")


class Pkcs11Settings(Section):
    """`[authority.pkcs11]`: a token of a hardware module; the PIN is in a file that is the daemon's alone."""

    module: AnyPath
    token_label: str = Field(min_length=1, max_length=32)
    pin_file: AnyPath


class AuthoritySettings(Section):
    """`[authority]`: where the authority's keys are: in files of the state directory, or in a hardware module."""

    pkcs11: Pkcs11Settings | None = None


class RotationSettings(Section):
    """`[rotation]`: what is asked for before a step of a rotation, and how fast machines follow it.

    A node or relay that was heard of within `live_hours` has to have reported before a step. `renew_within_seconds` is
    over how long machines spread the renewals that a step makes necessary. `signing_key_days` is after how many days a
    token key is due to be rotated; nothing happens then but that a gauge says so.
    """

    live_hours: float = Field(default=24.0, gt=0, le=24 * 90)
    renew_within_seconds: int = Field(default=300, ge=0, le=DAY_SECONDS)
    signing_key_days: int = Field(default=90, ge=1, le=3650)


def _with_driver(url: str) -> str:
    if url.startswith("postgresql"):
        if find_spec("asyncpg") is None:
            raise ValueError("PostgreSQL needs the package asyncpg, which is not installed: pip install asyncpg")
        _check_options(dict(parse_qsl(urlsplit(url).query, keep_blank_values=True)))
    return url


def _check_options(options: Mapping[str, str]) -> None:
    """Check what stands behind the `?`: the driver would raise what nobody understands, and at the start only."""
    if (unknown := next((name for name in options if name not in SERVER_OPTIONS), None)) is not None:
        raise ValueError(
            f"{unknown} is nothing that may stand behind the ?, as {', '.join(SERVER_OPTIONS)} may; "
            "libpq's sslmode is ssl here, and its sslrootcert is PGSSLROOTCERT in the environment"
        )
    if (mode := options.get("ssl", SSL_MODES[0])) not in SSL_MODES:
        raise ValueError(f"ssl={mode} is none of {', '.join(SSL_MODES)}")


class DatabaseSettings(Section):
    """`[database]`: by default an SQLite file in the state directory; PostgreSQL needs the package asyncpg.

    PostgreSQL is waited for, at each step, for `query_timeout_seconds`. Behind the `?` of its URL may stand
    `SERVER_OPTIONS`.
    """

    url: Annotated[str, AfterValidator(_with_driver)] | None = Field(
        default=None, pattern=r"^(sqlite\+aiosqlite|postgresql\+asyncpg)://"
    )
    query_timeout_seconds: float = Field(default=10.0, ge=1, le=600)


class TokenSettings(Section):
    """`[tokens]`: lifetimes of what is issued."""

    svid_seconds: int = Field(default=DAY_SECONDS, ge=60, le=7 * DAY_SECONDS)
    listen_seconds: int = Field(default=DAY_SECONDS, ge=60, le=DAY_SECONDS)
    relay_svid_seconds: int = Field(default=7 * DAY_SECONDS, ge=60, le=30 * DAY_SECONDS)
    own_svid_seconds: int = Field(default=7 * DAY_SECONDS, ge=60, le=30 * DAY_SECONDS)
    longest_call_seconds: int = Field(default=900, ge=1, le=900)
    longest_workspace_seconds: int = Field(default=30 * DAY_SECONDS, ge=1, le=30 * DAY_SECONDS)


class HealthSettings(Section):
    """`[health]`: how nodes are watched."""

    interval_seconds: float = Field(default=15.0, ge=0.1, le=3600)
    timeout_seconds: float = Field(default=5.0, ge=0.1, le=60)
    most_at_once: int = Field(default=64, ge=1, le=4096)
    history_days: int = Field(default=7, ge=1, le=365)
    history_interval_seconds: float = Field(default=300.0, ge=1, le=DAY_SECONDS)
    most_nodes_in_metrics: int = Field(default=5000, ge=0, le=100_000)


class CommandSettings(Section):
    """`[commands]`: how commands are brought to nodes and watched, and what is kept of them.

    Of a command's output up to `keep_output_bytes` are kept, the beginning and the end of what is larger, for
    `keep_output_days`, and of all commands together `keep_output_total_bytes`; 0 bytes keep nothing.
    """

    delivery_seconds: int = Field(default=60, ge=1, le=3600)
    call_timeout_seconds: float = Field(default=10.0, ge=0.5, le=60)
    refresh_timeout_seconds: float = Field(default=2.0, ge=0.1, le=30)
    most_at_once: int = Field(default=64, ge=1, le=4096)
    most_watched: int = Field(default=512, ge=0, le=2048)
    most_open_per_workspace: int = Field(default=10_000, ge=1, le=1_000_000)
    history_days: int = Field(default=30, ge=1, le=3650)
    keep_output_bytes: int = Field(default=1024**2, ge=0, le=64 * 1024**2)
    keep_output_total_bytes: int = Field(default=10 * 1024**3, ge=0, le=1024**5)
    keep_output_days: int = Field(default=7, ge=1, le=3650)


class AuditSettings(Section):
    """`[audit]`: for how long who did what is kept; for ever unless `keep_days` says otherwise."""

    keep_days: int | None = Field(default=None, ge=90, le=36_500)


class RelayReachSettings(Section):
    """`[relay_reach]`: why relays' certificates are trusted when the control plane dials them.

    By default because they are SVIDs of the own authority; where relays serve public certificates from files,
    `public_roots` is set, or `ca_file` names the roots.
    """

    public_roots: bool = False
    ca_file: ReadableFile | None = None

    @classmethod
    def cross_check(cls, given: Mapping[str, Any]) -> None:
        """Only one says who vouches for relays."""
        public = str(given.get("public_roots", False)).lower() in ("true", "1", "yes", "on", "t", "y")
        if public and "ca_file" in given:
            raise ValueError("give public_roots or ca_file, not both")


class LimitSettings(Section):
    """`[limits]`: what one control plane holds at once, and how long it waits for slow clients."""

    most_connections: int = Field(default=4096, ge=16, le=100_000)
    most_connections_per_address: int = Field(default=1024, ge=4, le=100_000)
    handshake_seconds: float = Field(default=10.0, ge=1, le=60)
    idle_seconds: float = Field(default=30.0, ge=1, le=600)
    write_stall_seconds: float = Field(default=30.0, ge=1, le=600)
    most_challenges: int = Field(default=10_000, ge=16, le=1_000_000)
    most_bootstraps_at_once: int = Field(default=64, ge=1, le=1024)
    most_bootstraps_waiting: int = Field(default=512, ge=0, le=10_000)
    most_late_renewals_per_second: float = Field(default=50.0, ge=1, le=10_000)
    most_node_records_per_second: float = Field(default=100.0, ge=1, le=10_000)
    drain_seconds: float = Field(default=20.0, ge=0, le=600)


class ControlPlaneSettings(DaemonSettings):
    """Everything that the control plane is told."""

    listen: ListenSettings = ListenSettings()
    admin: ControlPlaneAdmin = ControlPlaneAdmin()
    identity: IdentitySettings = IdentitySettings()
    tls: TlsSettings = TlsSettings()
    database: DatabaseSettings = DatabaseSettings()
    authority: AuthoritySettings = AuthoritySettings()
    rotation: RotationSettings = RotationSettings()
    tokens: TokenSettings = TokenSettings()
    health: HealthSettings = HealthSettings()
    commands: CommandSettings = CommandSettings()
    audit: AuditSettings = AuditSettings()
    relay_reach: RelayReachSettings = RelayReachSettings()
    bootstrap: BootstrapSettings = BootstrapSettings()
    limits: LimitSettings = LimitSettings()

    @property
    def database_url(self) -> str:
        """The database's URL, the default filled in."""
        return self.database.url or f"sqlite+aiosqlite:///{self.state_directory / DATABASE_FILE}"

    @property
    def authority_directory(self) -> Path:
        """Where the first authority's keys and certificates are."""
        return self.state_directory / "authority"

    @property
    def token_key_file(self) -> Path:
        """Where the first key that signs tokens is."""
        return self.state_directory / "token-key.pem"

    @property
    def secret_keys_file(self) -> Path:
        """Where the keys are that wrap the workspaces' data keys."""
        return self.state_directory / "secret-keys.json"

    @property
    def outputs_directory(self) -> Path:
        """Where the kept outputs of commands are."""
        return self.state_directory / "outputs"

    @property
    def operator_token_file(self) -> AnyPath:
        """Where `init` leaves the operator token."""
        return self.state_directory / "operator-token"

    @property
    def ca_file(self) -> AnyPath:
        """Where the roots are for clients."""
        return self.state_directory / "ca.pem"
