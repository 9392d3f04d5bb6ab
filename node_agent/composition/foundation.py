"""What there is before the node knows who it is, and how that is put together."""

import random
from dataclasses import dataclass

from prometheus_client import CollectorRegistry

from node_agent.checks import Checks
from node_agent.commands.ledger import CommandLedger
from node_agent.composition.commands import Secrets, command_ledger, metadata_block, secret_provision
from node_agent.establishing import Enrolment, ProxyFor, prepare_enrolment, proxies
from node_agent.machine import Machine
from node_agent.metrics import AgentMetrics, MachineCollector
from node_agent.policy_file import PolicyError, PolicySource
from node_agent.protection.metadata_block import MetadataBlock
from node_agent.settings import AgentSettings
from trunkline.client.clock_offset import ClockOffset
from trunkline.runtime.clock import Clock, SystemClock
from trunkline.runtime.daemon import StartError
from trunkline.runtime.daemon_metrics import daemon_registry
from trunkline.runtime.logs import get_logger


@dataclass(frozen=True, slots=True)
class Foundation:
    """What there is before the node knows who it is."""

    settings: AgentSettings
    registry: CollectorRegistry
    metrics: AgentMetrics
    machine: Machine
    policy: PolicySource
    metadata_block: MetadataBlock
    secrets: Secrets
    ledger: CommandLedger
    checks: Checks
    enrolment: Enrolment
    proxy_for: ProxyFor
    clock_offset: ClockOffset
    clock: Clock
    rng: random.Random


def lay_foundation(settings: AgentSettings) -> Foundation:
    """Build what there is before the node knows who it is; nothing runs yet.

    Raises:
        StartError: what the settings point at cannot be used.
    """
    clock, rng = SystemClock(), random.SystemRandom()
    registry = daemon_registry()
    metrics = AgentMetrics(registry)
    machine = Machine(settings.state_directory, clock)
    registry.register(MachineCollector(machine))
    try:
        policy = PolicySource(settings.policy.file, get_logger("node_agent.policy"))
    except PolicyError as error:
        raise StartError(str(error)) from None
    secrets, block = secret_provision(settings, policy, metrics, clock), metadata_block(settings, policy, metrics)
    proxy_for, clock_offset = proxies(settings), ClockOffset(clock)
    metrics.clock_offset.set_function(lambda: clock_offset.seconds or 0.0)
    return Foundation(
        settings=settings,
        registry=registry,
        metrics=metrics,
        machine=machine,
        policy=policy,
        metadata_block=block,
        secrets=secrets,
        ledger=command_ledger(settings, policy, metrics, clock, secrets.provision, block),
        checks=Checks(policy, rng, get_logger("node_agent.checks")),
        enrolment=prepare_enrolment(settings, proxy_for=proxy_for, clock_offset=clock_offset, clock=clock, rng=rng),
        proxy_for=proxy_for,
        clock_offset=clock_offset,
        clock=clock,
        rng=rng,
    )
