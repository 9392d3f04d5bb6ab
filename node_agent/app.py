"""The node agent: starts, becomes a node if it is none, serves until it is asked to end, drains, and goes.

Order: settings, policy, state directory, the commands of the agent before this one, identity (bootstrap if there is
none), then the links to the relays. With a valid identity nothing asks the control plane before the links are up, so
that a node serves through an outage of it.
"""

import asyncio
import os
from collections.abc import Sequence
from contextlib import AsyncExitStack
from urllib.parse import urlsplit

from node_agent.composition.foundation import Foundation, lay_foundation
from node_agent.composition.serving import Serving, compose
from node_agent.establishing import control_plane_tls, establish_identity, look_for_join_token, proxies
from node_agent.identity.trust_keeping import TrustKeeping
from node_agent.orphans import Orphans
from node_agent.policy_file import PolicyError, PolicySource
from node_agent.settings import ENVIRONMENT_PREFIX, AgentSettings
from trunkline.runtime.admin import AdminServer
from trunkline.runtime.allocator import keep_giving_back
from trunkline.runtime.daemon import EXIT_TEMPORARY, Daemon, StartError, run_daemon
from trunkline.runtime.files import StateDirectory, StateDirectoryError
from trunkline.runtime.lifecycle import Lifecycle
from trunkline.runtime.logs import Logger, get_logger
from trunkline.runtime.loop import watch_lag
from trunkline.runtime.systemd import ServiceNotifier
from trunkline.runtime.threads import started_threads

STATE_FORMAT = "trunkline-node-agent 1"
FIRST_LOOK_SECONDS = 2.0


def main(argv: Sequence[str] | None = None) -> int:
    """Run the node agent; returns its exit code."""
    daemon = Daemon(
        name="node-agent", prefix=ENVIRONMENT_PREFIX, settings_class=AgentSettings, serve=serve, check=check
    )
    return run_daemon(daemon, argv)


def check(settings: AgentSettings) -> list[str]:
    """Name what is wrong with what the settings only point at; the join token counts before the bootstrap only."""
    problems = []
    for look in (proxies, control_plane_tls, look_for_join_token):
        try:
            look(settings)
        except StartError as error:
            problems.append(str(error))
    try:
        PolicySource(settings.policy.file, get_logger("node_agent.policy"))
    except PolicyError as error:
        problems.append(str(error))
    return problems


async def serve(settings: AgentSettings) -> None:
    """Run the agent until it has drained.

    Raises:
        StartError, StateDirectoryError: it cannot run; the message says what to do.
    """
    log = get_logger("node_agent")
    asyncio.get_running_loop().set_default_executor(started_threads())
    with (
        StateDirectory(settings.state_directory, format_name=STATE_FORMAT),
        Lifecycle(
            state_directory=settings.state_directory,
            notifier=ServiceNotifier.from_environment(os.environ),
            log=log,
        ) as lifecycle,
    ):
        foundation = lay_foundation(settings)
        lifecycle.on_reload(lambda: _reload(foundation.policy))
        linked = lifecycle.condition("relay_link")
        admin = AdminServer(
            settings.admin.address,
            settings.admin.port,
            metrics=foundation.registry,
            lifecycle=lifecycle,
            waiting=log,  # a command could take the port while the agent is restarted
        )
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(admin)
            await foundation.metadata_block.look()
            stack.push_async_callback(_close_block, foundation)
            await _open_ledger(foundation)
            stack.push_async_callback(foundation.secrets.provision.close)
            stack.push_async_callback(foundation.ledger.stop)
            node = await lifecycle.unless_drained(establish_identity(foundation.enrolment, foundation.clock, log))
            if node is None:
                return
            own_ports = frozenset({port} if (port := urlsplit(admin.url).port) else ())
            serving = await compose(foundation, node, linked, own_ports, stack)
            await _run(foundation, serving, lifecycle, admin.url, log)


async def _run(foundation: Foundation, serving: Serving, lifecycle: Lifecycle, admin_url: str, log: Logger) -> None:
    """Run everything until the agent is asked to end, then drain."""
    moved = asyncio.Event()
    served = serving.credentials.current.spiffe_id
    serving.credentials.subscribe(lambda before, node: moved.set() if node.spiffe_id != served else None)
    keeping = TrustKeeping(foundation.enrolment.trust.store, get_logger("node_agent.trust"))
    lifecycle.remark("trust_document", keeping.remark)
    lifecycle.remark("disk", foundation.machine.remark)
    lifecycle.remark("clock", foundation.clock_offset.complaint)
    async with asyncio.TaskGroup() as group:
        background = [
            group.create_task(work)
            for work in (
                serving.links.run(),
                serving.renewal.run(),
                serving.secrets.run(),
                serving.report_sender.run(),
                serving.hand_over.run(),
                serving.trust_watch.run(),
                keeping.run(),
                serving.initialisation.run(),
                foundation.checks.run(),
                foundation.ledger.run(),
                foundation.metadata_block.run(),
                Orphans().run(),
                lifecycle.keep_watchdog(),
                keep_giving_back(),
                watch_lag(foundation.metrics.loop_lag.observe, foundation.clock),
            )
        ]
        # A node for which there are no scripts is not to be met as one that takes no commands yet.
        await serving.initialisation.looked(FIRST_LOOK_SECONDS)
        serving.links.configure(foundation.enrolment.trust.relays_or(serving.credentials.current.relays))
        lifecycle.started(admin_url=admin_url)
        await _first(lifecycle.drain_requested, moved)
        drain_seconds = foundation.settings.drain_seconds
        work = asyncio.gather(foundation.ledger.stop(), serving.shells.stop(), serving.links.drain(drain_seconds))
        finished = await lifecycle.within_drain(work, drain_seconds)
        if not finished:
            foundation.ledger.kill()
        log.info("agent.drained", finished=finished)
        for task in background:
            task.cancel()
    if moved.is_set():
        raise StartError("the node has become another one by its bootstrap; start the agent again", EXIT_TEMPORARY)


async def _open_ledger(foundation: Foundation) -> None:
    try:
        await foundation.ledger.open()
    except OSError as error:
        raise StateDirectoryError(f"the commands' directory cannot be used: {error.strerror}") from None


async def _close_block(foundation: Foundation) -> None:
    """Let commands reach the metadata service again, unless some go on without the agent."""
    go_on = any(not command.state.terminal for command in foundation.ledger)
    await foundation.metadata_block.close(commands_go_on=go_on)


def _reload(policy: PolicySource) -> None:
    policy.reload()


async def _first(*events: asyncio.Event) -> None:
    """Wait until one of the events is set."""
    waits = [asyncio.ensure_future(event.wait()) for event in events]
    await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    for wait in waits:
        wait.cancel()
