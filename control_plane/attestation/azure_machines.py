"""Which VM a resource id is: asked of Azure Resource Manager, as the control plane itself.

A managed identity's token names a resource, an attested document a `vmId`, and neither names the other's. Only Resource
Manager can tell that they are one machine. It also knows the machine's tags and place, and which instance of a scale
set it is, whose instances all have tokens that name the set. The control plane asks with its own managed identity,
which needs the right to read virtual machines, and nothing else; no machine's token is ever handed on.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode, urlsplit

from certs.arm_ids import ComputeResource, read_compute_resource
from control_plane.attestation.outbound import Outbound
from control_plane.attestation.refusals import disagrees
from trunkline.runtime.clock import Clock
from trunkline.runtime.secret import Secret

COMPUTE_API_VERSION = "2024-07-01"
IDENTITY_API_VERSION = "2018-02-01"
MOST_PAGES = 50
MAX_PAGE_BYTES = 16 * 1024 * 1024
TOKEN_MARGIN_SECONDS = 300.0
MOST_TAGS = 50
LONGEST_TAG = 512


@dataclass(frozen=True, slots=True)
class AzureMachine:
    """One VM; the resource is the VM's or the instance's own, and `is_proved` says that Resource Manager has it so."""

    resource: ComputeResource
    region: str | None = None
    tags: Mapping[str, str] = field(default_factory=dict)
    scale_set: str | None = None
    is_proved: bool = False


class OwnToken:
    """The control plane's own token for Resource Manager, from its machine's metadata service; kept until it ends."""

    def __init__(self, outbound: Outbound, metadata_url: str, resource: str, clock: Clock) -> None:
        query = urlencode({"api-version": IDENTITY_API_VERSION, "resource": resource})
        self._url = f"{metadata_url}/metadata/identity/oauth2/token?{query}"
        self._outbound = outbound
        self._clock = clock
        self._token: Secret | None = None
        self._expires_at = 0.0
        self._flight = asyncio.Lock()

    async def get(self) -> Secret:
        """Return a token that is in force; one request at a time asks for a new one.

        Raises:
            AttestationRefused: the metadata service gives none.
        """
        async with self._flight:
            if self._token is None or self._clock.monotonic() >= self._expires_at:
                await self._renew()
            if self._token is None:
                raise self._outbound.failed("no token")
            return self._token

    async def _renew(self) -> None:
        self._token = None
        answer = await self._outbound.ask("GET", self._url, {"Metadata": "true"}, most_bytes=64 * 1024)
        document = _object(answer.body)
        token, seconds = document.get("access_token"), str(document.get("expires_in", ""))
        if answer.status != 200 or not isinstance(token, str) or not token or not seconds.isdigit():
            raise self._outbound.failed(f"no token of the control plane's own identity, status {answer.status}")
        self._token = Secret(token)
        self._expires_at = self._clock.monotonic() + max(0.0, int(seconds) - TOKEN_MARGIN_SECONDS)


class ResourceManager:
    """Looks machines up."""

    def __init__(self, outbound: Outbound, url: str, token: OwnToken) -> None:
        self._outbound = outbound
        self._url = url
        self._token = token

    async def find(self, resource: ComputeResource, vm_id: str) -> AzureMachine:
        """Return the machine with this `vmId`, which must be the resource, or an instance of it.

        Raises:
            AttestationRefused: it is not, or Resource Manager gives no usable answer.
        """
        if resource.is_one_machine:
            document = await self._get(self._url + resource.text + _version())
            if _vm_id(document) == vm_id:
                return _machine(document, resource)
        else:
            async for document in self._instances(resource):
                if _vm_id(document) == vm_id:
                    return _machine(document, None)
        raise disagrees("the attested document is of another machine than the managed identity's token")

    async def _instances(self, scale_set: ComputeResource) -> AsyncIterator[dict[str, Any]]:
        url: str | None = f"{self._url}{scale_set.text}/virtualmachines{_version()}"
        for _ in range(MOST_PAGES):
            if url is None:
                return
            page = await self._get(url)
            for document in _entries(page):
                yield document
            url = self._next(page)

    def _next(self, page: Mapping[str, Any]) -> str | None:
        """Return the next page's address, which must be the same service's: the token goes nowhere else."""
        link = page.get("nextLink")
        if not isinstance(link, str) or not link:
            return None
        here, there = urlsplit(self._url), urlsplit(link)
        if (there.scheme, there.netloc) != (here.scheme, here.netloc):
            raise self._outbound.failed("its list goes on elsewhere")
        return link

    async def _get(self, url: str) -> dict[str, Any]:
        token = await self._token.get()
        headers = {"Authorization": f"Bearer {token.reveal()}", "Accept": "application/json"}
        answer = await self._outbound.ask("GET", url, headers, most_bytes=MAX_PAGE_BYTES)
        if answer.status == 404:
            raise disagrees("the managed identity's token names a machine that does not exist")
        if answer.status != 200:
            raise self._outbound.failed(f"status {answer.status}")
        return _object(answer.body)


def _machine(document: Mapping[str, Any], resource: ComputeResource | None) -> AzureMachine:
    found = resource or _compute(document.get("id"))
    if found is None or not found.is_one_machine:
        raise disagrees("the scale set's instance has no resource id of its own")
    properties = document.get("properties")
    belongs = properties.get("virtualMachineScaleSet") if isinstance(properties, dict) else None
    scale_set = _compute(belongs.get("id")) if isinstance(belongs, dict) else None
    region = document.get("location")
    return AzureMachine(
        resource=found,
        region=region.lower() if isinstance(region, str) and len(region) <= LONGEST_TAG else None,
        tags=_tags(document.get("tags")),
        scale_set=found.scale_set or (scale_set.scale_set if scale_set is not None else None),
        is_proved=True,
    )


def _compute(text: object) -> ComputeResource | None:
    try:
        return read_compute_resource(text) if isinstance(text, str) else None
    except ValueError:
        return None


def _tags(value: object) -> dict[str, str]:
    pairs = value.items() if isinstance(value, dict) else ()
    kept = {name: tag for name, tag in pairs if isinstance(tag, str) and len(name) <= LONGEST_TAG >= len(tag)}
    return dict(list(kept.items())[:MOST_TAGS])


def _vm_id(document: Mapping[str, Any]) -> str | None:
    properties = document.get("properties")
    value = properties.get("vmId") if isinstance(properties, dict) else None
    return value.lower() if isinstance(value, str) else None


def _entries(page: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    entries = page.get("value")
    return (entry for entry in (entries if isinstance(entries, list) else []) if isinstance(entry, dict))


def _version() -> str:
    return f"?api-version={COMPUTE_API_VERSION}"


def _object(body: bytes) -> dict[str, Any]:
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    return document if isinstance(document, dict) else {}
