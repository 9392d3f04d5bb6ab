"""Puts together what is done on the node besides commands: its initialisation, shells, and files."""

from contextlib import AsyncExitStack
from dataclasses import dataclass

from certs.errors import KeyFileError
from node_agent.composition.foundation import Foundation
from node_agent.exchanges.watch import CallerWatch
from node_agent.files.files import NodeFiles
from node_agent.identity.credentials import Credentials
from node_agent.init_scripts.initialisation import Initialisation, InitParts
from node_agent.init_scripts.readiness import Readiness
from node_agent.init_scripts.record import InitFiles
from node_agent.reports import Reports
from node_agent.shells.shells import Shells
from trunkline.runtime.files import StateDirectoryError
from trunkline.runtime.logs import get_logger


@dataclass(frozen=True, slots=True)
class Work:
    """What is done on this node besides commands, and whether the node takes any work yet."""

    readiness: Readiness
    initialisation: Initialisation
    shells: Shells
    files: NodeFiles


def compose_work(
    foundation: Foundation, credentials: Credentials, watch: CallerWatch, reports: Reports, stack: AsyncExitStack
) -> Work:
    """Build it; `stack` stops it.

    Raises:
        StateDirectoryError: the record of the node's initialisation cannot be read.
    """
    readiness = Readiness()
    initialisation = _initialisation(foundation, credentials, readiness)
    shells = _shells(foundation, watch, reports, readiness)
    stack.push_async_callback(shells.stop)
    files = _files(foundation, reports, readiness)
    stack.push_async_callback(files.stop)
    return Work(readiness, initialisation, shells, files)


def _initialisation(foundation: Foundation, credentials: Credentials, readiness: Readiness) -> Initialisation:
    log = get_logger("node_agent.init")
    parts = InitParts(
        control_plane=foundation.enrolment.control_plane,
        credentials=credentials,
        ledger=foundation.ledger,
        policy=foundation.policy,
        files=InitFiles(foundation.settings.state_directory, log),
        readiness=readiness,
        metrics=foundation.metrics,
        clock=foundation.clock,
        rng=foundation.rng,
        log=log,
    )
    try:
        return Initialisation(parts)
    except KeyFileError as error:
        raise StateDirectoryError(str(error)) from None


def _shells(foundation: Foundation, watch: CallerWatch, reports: Reports, readiness: Readiness) -> Shells:
    metrics, log = foundation.metrics, get_logger("node_agent.shells")
    shells = Shells(
        foundation.policy,
        watch,
        metrics,
        reports,
        foundation.clock,
        log,
        kept_from_metadata=foundation.metadata_block.blocked_users,
        unready=readiness.refusal,
    )
    metrics.shells_running.set_function(lambda: float(shells.running))
    return shells


def _files(foundation: Foundation, reports: Reports, readiness: Readiness) -> NodeFiles:
    listeners, log = (foundation.metrics, reports), get_logger("node_agent.files")
    files = NodeFiles(foundation.policy, listeners, log, unready=readiness.refusal)
    foundation.metrics.files_running.set_function(lambda: float(files.running))
    return files
