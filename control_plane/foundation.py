"""What the parts of the control plane are put together from: the ground that all stand on, and what many share."""

import asyncio
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from prometheus_client import CollectorRegistry

from control_plane.attestation.evidence import EvidenceProvider
from control_plane.fleet.reach import Sender
from control_plane.identity.issuance import Issuance
from control_plane.identity.own_identity import OwnIdentity
from control_plane.identity.trust_publisher import TrustPublisher
from control_plane.identity.trust_recovery import TrustRecovery
from control_plane.secrets.bundles import Bundles
from control_plane.secrets.rotation import KeyRotation
from control_plane.secrets.vault import SecretVault
from control_plane.settings import ControlPlaneSettings
from control_plane.signing.in_force import SignersInForce
from control_plane.signing.key_stores import KeyStores
from control_plane.storage.database import Database
from trunkline.runtime.clock import Clock


@dataclass(frozen=True, slots=True)
class Foundation:
    """What everything stands on.

    `signers` are loaded already. `operators` are ids by the hashes of their tokens; `make_sender` takes the place of
    dialling relays.
    """

    settings: ControlPlaneSettings
    database: Database
    signers: SignersInForce
    stores: KeyStores
    account_id: str
    page_key: str
    operators: Mapping[str, str]
    providers: Mapping[str, EvidenceProvider]
    registry: CollectorRegistry
    clock: Clock
    rng: random.Random
    draining: asyncio.Event
    make_sender: Callable[[str], Sender] | None = None


@dataclass(frozen=True, slots=True)
class Identities:
    """What the control plane signs and serves with."""

    own: OwnIdentity
    issuance: Issuance
    trust: TrustPublisher
    recovery: TrustRecovery


@dataclass(frozen=True, slots=True)
class Secrets:
    """Workspace secrets at rest, and on their way to nodes."""

    vault: SecretVault
    bundles: Bundles
    rotation: KeyRotation
