"""The relay's settings: the tables of relay.toml."""

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar

from pydantic import Field

from trunkline.runtime.settings import AdminSettings, AnyPath, DaemonSettings, HttpsUrl, Port, ReadableFile, Section

ENVIRONMENT_PREFIX = "TRUNKLINE_RELAY"

SHORTEST_REFUSE_AFTER_SECONDS = 5.0
"""Less would refuse calls whenever the control plane is started again."""

Seconds = Annotated[float, Field(gt=0, le=86_400)]
Count = Annotated[int, Field(ge=1, le=10_000_000)]
Bytes = Annotated[int, Field(ge=1024, le=2**40)]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
DnsName = Annotated[str, Field(pattern=r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?(\.[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)*$")]
DnsLabel = Annotated[str, Field(pattern=r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$")]


class ListenSettings(Section):
    """`[listen]`: the one port for senders and listeners; port 0 lets the system pick one."""

    address: str = "0.0.0.0"  # noqa: S104 - a relay is there to be reached
    port: Port = 443
    backlog: Annotated[int, Field(ge=16, le=65_535)] = 4096


class ControlPlaneSettings(Section):
    """`[control_plane]`: where it is, and why it is trusted: public CAs, a CA file, or a pinned root."""

    url: HttpsUrl
    ca_file: ReadableFile | None = None
    root_sha256: Sha256 | None = None

    @classmethod
    def cross_check(cls, given: Mapping[str, Any]) -> None:
        """Only one says who vouches for the control plane."""
        if "ca_file" in given and "root_sha256" in given:
            raise ValueError("give ca_file or root_sha256, not both; give neither to trust the public CAs")


class EnrolmentSettings(Section):
    """`[enrolment]`: how the relay gets its first identity; not looked at once it has one."""

    join_token_file: AnyPath | None = None
    name: DnsLabel = "relay"


class CertificateSettings(Section):
    """`[certificate]`: a public serving certificate, in place of the relay's own SVID."""

    chain_file: ReadableFile
    key_file: ReadableFile


class NamesSettings(Section):
    """`[names]`: the suffix of the names that only this relay can reach."""

    suffix: DnsName = "trunk.internal"


class AdvertiseSettings(Section):
    """`[advertise]`: the port that nodes and senders dial, where it is not the port that is bound."""

    port: Annotated[int, Field(ge=1, le=65_535)] | None = None


class LimitsSettings(Section):
    """`[limits]`: every deadline and every bound of the relay."""

    gone: ClassVar[Mapping[str, str]] = {"max_head_bytes": "remove it; a head has at most 32 KiB"}

    handshake_seconds: Seconds = 10.0
    """From accepting a new connection to the end of its TLS handshake; see `max_handshakes` on less."""
    head_seconds: Seconds = 10.0
    """From a connection's TLS to the end of its first head; from the first byte of a later one to that head's end."""
    idle_seconds: Seconds = 75.0
    """A kept-alive sender connection between two calls."""
    body_min_bytes_per_second: Annotated[int, Field(ge=1)] = 128
    """Slowest rate at which a sender may send a body that the node is ready to take."""
    write_stall_seconds: Seconds = 11.0
    """A connection whose sender takes none of the bytes of an answer that wait for it."""
    stream_stall_seconds: Seconds = 60.0
    """The same for raw bytes, and for a call on a link: their reader may well stand still, and holds no connection."""
    listener_seconds: Seconds = 15.0
    """From opening a stream to the first sign of the listener that it has accepted it."""
    ping_seconds: Seconds = 3.0
    """How long the link of another instance may take to answer before it counts as dead."""
    keepalive_seconds: Seconds = 9.0
    """Before a link that is quiet is pinged: a second more than dialling ends wait, so that one ping does for both."""
    notice_seconds: Seconds = 10.0
    """A notice to a listener, from its first byte to the answer."""
    drain_lead_seconds: Annotated[float, Field(ge=0, le=3600)] = 2.0
    """From being asked to end until the port is closed: calls are served, while everybody is told to go elsewhere."""
    drain_seconds: Seconds = 30.0
    """Calls in flight when the port has been closed."""
    return_seconds: Annotated[float, Field(ge=0, le=600)] = 15.0
    """After a start, how long readiness waits for the nodes that had links here before."""
    superseded_seconds: Seconds = 7200.0
    """Calls in flight on a link that was superseded."""
    max_connections: Count = 20_000
    """Accepted sockets of all kinds: those that set up TLS or wait to, senders' connections, and links.

    At the bound a connection makes room on which no call was admitted for `head_seconds`, or which is idle.
    """
    max_handshakes: Annotated[int, Field(ge=1, le=100_000)] = 1024
    """Connections that set up TLS at once; more wait in the kernel's backlog, and then who is slow has to go."""
    max_handshakes_per_address: Annotated[int, Field(ge=1, le=100_000)] = 512
    """Those of one IPv4 address or one IPv6 /64; more wait, accepted, until others of it are done."""
    handshakes_per_second: Annotated[int, Field(ge=10, le=1_000_000)] = 300
    """TLS handshakes that begin in any one second; more wait their turn, unread, and after three seconds' worth go."""
    max_links_per_workspace: Count = 10_000
    max_streams_per_link: Count = 4096
    window_bytes: Annotated[int, Field(ge=16_384, le=262_144)] = 65_536
    """Initial window that is offered to peers that can agree one."""
    link_budget_bytes: Bytes = 16_777_216
    """Credit of one link beyond the initial windows."""
    credit_budget_bytes: Bytes = 268_435_456
    """Credit of all links together beyond the initial windows."""
    link_held_bytes: Bytes = 67_108_864
    """Bytes that one link may hold for `write_stall_seconds`; then the stream of it that holds most is reset."""
    held_budget_bytes: Bytes = 536_870_912
    """Bytes that all links together may hold; above it, the stream that holds most is reset at once."""
    memory_bytes: Annotated[int, Field(ge=0, le=2**50)] = 0
    """Resident memory that the process may hold; above 85 % of it nothing new is taken. 0: the limit of its cgroups."""
    token_cache_entries: Count = 16_384


class ReportsSettings(Section):
    """`[reports]`: what goes up to the control plane, and how much may wait."""

    interval_seconds: Seconds = 1.0
    """Between two batches."""
    fold_seconds: Seconds = 10.0
    """For how long admissions and refusals are counted before they become report items."""
    max_waiting: Count = 10_000
    max_batch: Annotated[int, Field(ge=1, le=1_000)] = 500


class TrustSettings(Section):
    """`[trust]`: what to do while the control plane does not confirm that the trust document is the newest."""

    warn_after_seconds: Seconds = 15.0
    refuse_after_seconds: Annotated[float, Field(ge=SHORTEST_REFUSE_AFTER_SECONDS, le=86_400)] | None = None
    """Admit no new calls and links from then on; without it they go on, and tokens end when they expire."""


class MetricsSettings(Section):
    """`[metrics]`: how many workspaces get a label of their own before the rest share one."""

    max_workspaces: Annotated[int, Field(ge=0, le=10_000)] = 100


class RelaySettings(DaemonSettings):
    """The whole of relay.toml."""

    workers: Annotated[int, Field(ge=1, le=64)] = 1
    """How many processes carry calls. One is the relay itself; more have a parent besides."""
    listen: ListenSettings = ListenSettings()
    admin: AdminSettings = AdminSettings(port=9464)
    control_plane: ControlPlaneSettings
    enrolment: EnrolmentSettings = EnrolmentSettings()
    certificate: CertificateSettings | None = None
    names: NamesSettings = NamesSettings()
    advertise: AdvertiseSettings = AdvertiseSettings()
    limits: LimitsSettings = LimitsSettings()
    reports: ReportsSettings = ReportsSettings()
    trust: TrustSettings = TrustSettings()
    metrics: MetricsSettings = MetricsSettings()
