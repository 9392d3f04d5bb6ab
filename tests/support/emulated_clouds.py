"""The emulated clouds in this process, with a control plane that believes them, and machines that attest."""

from __future__ import annotations

import random
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp

from certs.chains import CertificateChain
from certs.evidence_nonce import evidence_nonce
from certs.identities import Identity
from control_plane.settings import ControlPlaneSettings
from node_agent.identity.cloud_evidence import AwsEvidence, AzureEvidence, GcpEvidence
from node_agent.identity.evidence import EvidenceSource
from node_agent.identity.metadata_service import MetadataService
from tests.support.control_planes import Answer, RunningControlPlane, running_control_plane, settings_for
from trunkline.runtime.clock import Clock, SystemClock
from trunkline.sandbox.emulated_machines import (
    AWS_ACCOUNT,
    AWS_REGION,
    CONTROL_PLANE,
    DOCUMENT_HOST,
    GCP_ISSUER_PATH,
    GCP_KEYS_PATH,
    GCP_PROJECT,
    SUBSCRIPTION,
    TENANT,
)
from trunkline.sandbox.emulator import emulated_clouds

AUDIENCE = "api://trunkline-test"
ACCOUNTS = {"azure": SUBSCRIPTION, "aws": AWS_ACCOUNT, "gcp": GCP_PROJECT}
BOOTSTRAP = "/api/2.0/bootstrap"
MACHINES = ["vm-1", "vm-2"]


@dataclass
class Clouds:
    """The emulated clouds, and the machines in them."""

    directory: Path
    authority_url: str
    metadata_url: str

    def settings(self, directory: Path, **changes: dict[str, Any]) -> ControlPlaneSettings:
        """Settings that believe the clouds; `changes` are laid over the sections by name."""
        ca = self.directory / "ca.pem"
        sections: dict[str, dict[str, Any]] = {
            "azure": {
                "audience": AUDIENCE,
                "tenants": [TENANT],
                "document_roots_file": self.directory / "azure-document-roots.pem",
                "document_host": DOCUMENT_HOST,
                "resource_manager_url": self.authority_url,
                "metadata_url": f"{self.metadata_url}/{CONTROL_PLANE}",
                "authority_url": self.authority_url,
                "ca_file": ca,
            },
            "aws": {
                "accounts": [AWS_ACCOUNT],
                "certificate_files": {AWS_REGION: self.directory / "aws-document-roots.pem"},
                "sts_url": self.authority_url,
                "ca_file": ca,
            },
            "gcp": {
                "audience": AUDIENCE,
                "projects": [GCP_PROJECT],
                "issuer_url": self.authority_url + GCP_ISSUER_PATH,
                "keys_url": self.authority_url + GCP_KEYS_PATH,
                "ca_file": ca,
            },
        }
        return settings_for(
            directory, bootstrap={name: section | changes.get(name, {}) for name, section in sections.items()}
        )

    def source(self, machine: str, platform: str) -> EvidenceSource:
        """Where the machine's agent gets its evidence."""
        metadata = MetadataService(f"{self.metadata_url}/{machine}", random.Random(1), first_pause_seconds=0.001)
        if platform == "azure":
            return AzureEvidence(metadata, AUDIENCE, None)
        if platform == "aws":
            return AwsEvidence(metadata, SystemClock(), sts_host=self.authority_url.partition("://")[2])
        return GcpEvidence(metadata, AUDIENCE)

    async def lie(self, machine: str, **lies: Any) -> None:
        """Tell lies of a machine from now on; none is the truth again."""
        async with aiohttp.ClientSession() as session:
            url = f"{self.metadata_url}/{machine}/lies"
            async with session.put(url, json=lies) as answer:
                assert answer.status == 200, await answer.text()


@dataclass
class CloudPlane:
    """A control plane with clouds."""

    plane: RunningControlPlane
    clouds: Clouds

    async def policy(self, platform: str = "azure", name: str = "all", workspace: str = "finance", **rules: Any) -> Any:
        """Make the workspace and a policy for the platform's machines."""
        await self.plane.workspace(workspace)
        conditions = rules.pop("conditions", {"accounts": [ACCOUNTS[platform]]})
        body = {"join_policy": name, "platform": platform, "conditions": conditions, **rules}
        return await self.plane.ok("POST", f"/w/{workspace}/api/2.0/join-policies", body)

    async def request(
        self, machine: str = "vm-1", platform: str = "azure", **fields: Any
    ) -> tuple[dict[str, Any], Any]:
        """What the machine's agent would send, with the key that it is for."""
        body, key = await self.plane.bootstrap_body("", **fields)
        nonce = evidence_nonce(body["nonce"], body["csr"])
        return body | {"evidence": await self.clouds.source(machine, platform).collect(nonce)}, key

    async def send(self, body: dict[str, Any]) -> Answer:
        return await self.plane.call("POST", BOOTSTRAP, body, token=None)

    async def attest(self, machine: str = "vm-1", platform: str = "azure", **fields: Any) -> Answer:
        body, _ = await self.request(machine, platform, **fields)
        return await self.send(body)

    async def join(
        self, machine: str = "vm-1", platform: str = "azure", **fields: Any
    ) -> tuple[dict[str, Any], Identity]:
        """Bootstrap and confirm."""
        body, key = await self.request(machine, platform, **fields)
        answer = await self.plane.ok("POST", BOOTSTRAP, body, token=None)
        identity = Identity(key, CertificateChain.from_pem(answer["certificate_chain"]))
        await self.plane.ok("POST", f"{BOOTSTRAP}/confirm", {}, identity=identity)
        return answer, identity

    def counted(self, platform: str, outcome: str) -> float:
        """How often an attestation had this outcome."""
        name = "trunkline_control_plane_attestations_total"
        labels = {"platform": platform, "outcome": outcome}
        return self.plane.foundation.registry.get_sample_value(name, labels) or 0.0


@asynccontextmanager
async def running_clouds(directory: Path) -> AsyncIterator[Clouds]:
    """Run the clouds in a test's directory, with the keys of the first that ran beside it: making them takes long."""
    template, place = directory.parent / "emulated-clouds", directory / "clouds"
    if not template.exists():
        unfinished = template.with_name(f"{template.name}-unfinished")
        unfinished.mkdir()
        async with emulated_clouds(unfinished, MACHINES):
            unfinished.rename(template)
    shutil.copytree(template, place)
    async with emulated_clouds(place, MACHINES) as (authority_url, metadata_url):
        yield Clouds(place, authority_url, metadata_url)


@asynccontextmanager
async def cloud_plane(
    directory: Path, *, clock: Clock | None = None, **changes: dict[str, Any]
) -> AsyncIterator[CloudPlane]:
    """Run clouds, and a control plane that believes them."""
    async with running_clouds(directory) as clouds:
        settings = clouds.settings(directory, **changes)
        async with running_control_plane(directory, settings=settings, clock=clock) as plane:
            yield CloudPlane(plane, clouds)
