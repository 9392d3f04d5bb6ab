"""The settings `[bootstrap.azure]`, `[bootstrap.aws]` and `[bootstrap.gcp]`: whose evidence is believed at all.

They are the outer bound, for the whole account; which machine joins which workspace is a matter of join policies.
What is in these lists is checked before anything is fetched, so a stranger's evidence costs no request.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, StringConstraints

from trunkline.runtime.settings import HttpsUrl, HttpUrl, ReadableFile, Section

MOST_IDENTITIES = 10_000

Uuid = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$")]
Identity = Annotated[str, StringConstraints(pattern=r"^(\*|[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12})$")]
HostName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?$")]
AwsAccount = Annotated[str, StringConstraints(pattern=r"^[0-9]{12}$")]
AwsRegion = Annotated[str, StringConstraints(pattern=r"^[a-z]{2,3}(-[a-z]+){1,3}-[0-9]{1,2}$")]
GcpProject = Annotated[str, StringConstraints(pattern=r"^([a-z0-9.-]{1,64}:)?[a-z][a-z0-9-]{4,61}[a-z0-9]$")]
Audience = Annotated[str, StringConstraints(min_length=1, max_length=512)]


class AzureSettings(Section):
    """`[bootstrap.azure]`: tenants, and identities (object or application ids; `["*"]` is any of the tenants).

    `document_roots_file` pins the roots under which attested documents are signed, `document_intermediates_file` has
    the certificates between, `document_host` is the name that signs, or that has the
    regions' names one label below (other clouds have others). With `machine_check = "resource_manager"` the control
    plane asks Azure which VM a token's resource is, with its own managed identity from `metadata_url`; with
    `"first_use"` it believes the pair that it sees first. `authority_url` and `allow_insecure_authority` exist for an
    emulated issuer on a developer's machine.
    """

    audience: Audience
    tenants: list[Uuid] = Field(min_length=1, max_length=64)
    identities: list[Identity] = Field(default=["*"], min_length=1, max_length=MOST_IDENTITIES)
    document_roots_file: ReadableFile
    document_intermediates_file: ReadableFile | None = None
    document_host: HostName = "metadata.azure.com"
    machine_check: Literal["resource_manager", "first_use"] = "resource_manager"
    resource_manager_url: HttpsUrl = "https://management.azure.com"
    metadata_url: HttpUrl = "http://169.254.169.254"
    authority_url: HttpUrl | None = None
    allow_insecure_authority: bool = False
    ca_file: ReadableFile | None = None


class AwsSettings(Section):
    """`[bootstrap.aws]`: accounts, and for each region a file with the certificates that sign its documents.

    `sts_url` takes the place of the regions' STS endpoints for an emulated service.
    """

    accounts: list[AwsAccount] = Field(min_length=1, max_length=10_000)
    certificate_files: dict[AwsRegion, ReadableFile] = Field(min_length=1, max_length=64)
    sts_url: HttpsUrl | None = None
    ca_file: ReadableFile | None = None


class GcpSettings(Section):
    """`[bootstrap.gcp]`: our audience, and projects. `issuer_url` and `keys_url` exist for an emulated issuer."""

    audience: Audience
    projects: list[GcpProject] = Field(min_length=1, max_length=10_000)
    issuer_url: HttpsUrl | None = None
    keys_url: HttpsUrl | None = None
    ca_file: ReadableFile | None = None

    @classmethod
    def cross_check(cls, given: Mapping[str, Any]) -> None:
        """The keys of an emulated issuer are its own."""
        if ("issuer_url" in given) != ("keys_url" in given):
            raise ValueError("issuer_url and keys_url come together")


class BootstrapSettings(Section):
    """`[bootstrap]`: how machines may prove what they are, besides join tokens.

    `late_renewal_days` is for how long after its certificate has expired a relay, or a node that joined with a token,
    may renew it with its key; 0 turns that off.
    """

    late_renewal_days: int = Field(default=30, ge=0, le=30)
    azure: AzureSettings | None = None
    aws: AwsSettings | None = None
    gcp: GcpSettings | None = None
