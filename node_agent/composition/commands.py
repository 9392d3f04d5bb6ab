"""Puts together what runs commands: their ledger, the secrets they are given, and what keeps them from metadata."""

from dataclasses import dataclass

from node_agent.commands.ledger import CommandBounds, CommandLedger
from node_agent.commands.records import CommandStore
from node_agent.commands.retention import RetentionBounds
from node_agent.metrics import AgentMetrics
from node_agent.policy_file import PolicySource
from node_agent.protection.firewall import Tool
from node_agent.protection.iptables import Iptables
from node_agent.protection.metadata_block import MetadataBlock
from node_agent.protection.nftables import Nftables
from node_agent.protection.rule_names import chain_of, table_of
from node_agent.secrets.held import HeldSecrets
from node_agent.secrets.memory_files import MemoryFiles, candidates_for
from node_agent.secrets.provision import SecretProvision
from node_agent.secrets.uses import UseLog
from node_agent.settings import AgentSettings
from trunkline.runtime.clock import Clock
from trunkline.runtime.logs import get_logger

COMMANDS_DIRECTORY = "commands"


@dataclass(frozen=True, slots=True)
class Secrets:
    """The workspace's secrets on this node, what is done with them, and how commands get at them."""

    held: HeldSecrets
    uses: UseLog
    provision: SecretProvision


def secret_provision(settings: AgentSettings, policy: PolicySource, metrics: AgentMetrics, clock: Clock) -> Secrets:
    """Build what holds secrets and gives them to commands; nothing is held yet."""
    log = get_logger("node_agent.secrets")
    held, uses = HeldSecrets(), UseLog()
    provision = SecretProvision(
        held=held,
        files=MemoryFiles(candidates_for(settings.secrets.directory, settings.state_directory), log),
        uses=uses,
        policy=policy,
        meter=metrics,
        clock=clock,
        wait_seconds=settings.secrets.wait_seconds,
    )
    return Secrets(held, uses, provision)


def metadata_block(settings: AgentSettings, policy: PolicySource, metrics: AgentMetrics) -> MetadataBlock:
    """Build what keeps commands from the metadata service."""
    directory = settings.state_directory
    firewalls = (Nftables(Tool(), table_of(directory)), Iptables(Tool(), chain_of(directory)))
    return MetadataBlock(policy, firewalls, metrics, get_logger("node_agent.protection"))


def command_ledger(
    settings: AgentSettings,
    policy: PolicySource,
    metrics: AgentMetrics,
    clock: Clock,
    secrets: SecretProvision,
    metadata_block: MetadataBlock,
) -> CommandLedger:
    """Build the ledger of commands."""
    asked = settings.commands
    bounds = CommandBounds(
        grace_seconds=asked.grace_seconds,
        outlive_agent=asked.outlive_agent,
        retention=RetentionBounds(asked.retention_seconds, asked.retained_commands, asked.retained_output_bytes),
    )
    store = CommandStore(settings.state_directory / COMMANDS_DIRECTORY)
    log, kept_from_metadata = get_logger("node_agent.commands"), metadata_block.blocked_users
    ledger = CommandLedger(store, policy, bounds, metrics, clock, log, secrets, kept_from_metadata)
    metrics.running_commands.set_function(lambda: float(ledger.counts()[0]))
    metrics.queued_commands.set_function(lambda: float(ledger.counts()[1]))
    return ledger
