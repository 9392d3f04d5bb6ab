"""What the agent is told: its settings file, and the environment laid over it (`TRUNKLINE_NODE_AGENT__…`)."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, StringConstraints

from trunkline.runtime.secret import Secret
from trunkline.runtime.settings import AdminSettings, AnyPath, DaemonSettings, HttpsUrl, HttpUrl, ReadableFile, Section

ENVIRONMENT_PREFIX = "TRUNKLINE_NODE_AGENT"
DEFAULT_METADATA_URL = "http://169.254.169.254"

Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9A-Fa-f:]{64,95}$")]
NodeName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$")]


class ControlPlaneSettings(Section):
    """`[control_plane]`: where it is, and who vouches for it: a CA file, a root's hash, or else public CAs."""

    url: HttpsUrl
    ca_file: ReadableFile | None = None
    root_sha256: Sha256 | None = None
    request_seconds: float = Field(default=20.0, gt=0, le=300)

    @classmethod
    def cross_check(cls, given: Mapping[str, Any]) -> None:
        """Only one says who vouches for the control plane."""
        if "ca_file" in given and "root_sha256" in given:
            raise ValueError("give ca_file or root_sha256, not both")


class BootstrapSettings(Section):
    """`[bootstrap]`: how the node proves what it is when it has no identity.

    `workspace` is needed only where join policies of several workspaces are for this machine. `metadata_url` and
    `aws_sts_host` exist for an emulated service.
    """

    method: Literal["azure", "aws", "gcp", "join_token"]
    join_token_file: AnyPath | None = None
    node_name: NodeName | None = None
    workspace: str | None = Field(default=None, min_length=1, max_length=64)
    metadata_url: HttpUrl = DEFAULT_METADATA_URL
    audience: str | None = Field(default=None, min_length=1, max_length=512)
    client_id: str | None = Field(default=None, pattern=r"^[0-9a-fA-F-]{36}$")
    aws_sts_host: str | None = Field(default=None, pattern=r"^[a-z0-9.-]{1,253}(:[0-9]{1,5})?$")

    @classmethod
    def cross_check(cls, given: Mapping[str, Any]) -> None:
        """The method has its keys."""
        method = given.get("method")
        keys = {"join_token": "join_token_file", "azure": "audience", "gcp": "audience"}
        needed = keys.get(method) if isinstance(method, str) else None
        if needed is not None and needed not in given:
            raise ValueError(f"the method {method} needs {needed}")


class LinkSettings(Section):
    """`[links]`: the relays, if not those that the control plane names, and how they are dialled."""

    relays: list[HttpsUrl] = Field(default_factory=list)
    server_roots: Literal["trust_document", "public"] = "trust_document"
    carrier: Literal["auto", "yamux", "websocket"] = "auto"
    dial_seconds: float = Field(default=10.0, gt=0, le=120)
    keepalive_seconds: float = Field(default=8.0, ge=1, le=300)
    backoff_cap_seconds: float = Field(default=30.0, gt=0, le=600)
    clone_backoff_seconds: float = Field(default=300.0, gt=0, le=86400)
    drain_seconds: float = Field(default=300.0, gt=0)
    max_streams: int = Field(default=4096, ge=1, le=65536)


class PolicySettings(Section):
    """`[policy]`: the owner's policy file; without one, there are no ports."""

    file: AnyPath | None = None


class ProxySettings(Section):
    """`[proxy]`: the HTTP proxy for everything that the agent dials; the default is HTTPS_PROXY and NO_PROXY."""

    url: Secret | None = None


class ExchangeSettings(Section):
    """`[exchanges]`: bounds of what callers may hold open at the agent. Times in seconds."""

    head_seconds: float = Field(default=10.0, gt=0, le=300)
    request_seconds: float = Field(default=60.0, gt=0, le=3600)
    stall_seconds: float = Field(default=120.0, gt=0, le=3600)
    connect_seconds: float = Field(default=5.0, gt=0, le=120)
    max_forwarded: int = Field(default=1024, ge=1, le=65536)


class CommandSettings(Section):
    """`[commands]`: how commands are ended and remembered; what they may be is the policy's.

    With `outlive_agent`, commands go on when the agent ends, and the next one follows them; switch it off where nothing
    outlives the agent anyway, as in a container whose first process it is: then it ends its commands in order.
    """

    outlive_agent: bool = True
    grace_seconds: float = Field(default=10.0, gt=0, le=600)
    retention_seconds: float = Field(default=86400.0, ge=3600)
    retained_commands: int = Field(default=10_000, ge=100, le=1_000_000)
    retained_output_bytes: int = Field(default=10 * 1024**3, ge=1024)


class SecretSettings(Section):
    """`[secrets]`: where secrets are put that a command is given as files; it must be on tmpfs or ramfs.

    By default the first that is one of `/run/trunkline-node-agent` and `/dev/shm`.
    """

    directory: AnyPath | None = None
    wait_seconds: float = Field(default=10.0, ge=0, le=120)


class ReportSettings(Section):
    """`[reports]`: what the agent tells the control plane, and when. Times in seconds."""

    spread_seconds: float = Field(default=5.0, ge=0, le=600)
    """Over which a fleet's reports of a new trust document are spread; what was cut is told at once."""
    interval_seconds: float = Field(default=60.0, ge=1, le=3600)
    """Between two reports of refused streams."""


class AgentSettings(DaemonSettings):
    """The whole of the agent's settings."""

    control_plane: ControlPlaneSettings
    bootstrap: BootstrapSettings
    admin: AdminSettings = AdminSettings(port=9465)
    links: LinkSettings = LinkSettings()
    policy: PolicySettings = PolicySettings()
    proxy: ProxySettings = ProxySettings()
    exchanges: ExchangeSettings = ExchangeSettings()
    commands: CommandSettings = CommandSettings()
    secrets: SecretSettings = SecretSettings()
    reports: ReportSettings = ReportSettings()
    drain_seconds: float = Field(default=30.0, gt=0, le=3600)
