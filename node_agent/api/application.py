"""The application of the agent's API: the table of its routes, with the scope that each asks for."""

import asyncio
from dataclasses import dataclass

from aiohttp import web

from certs.scopes import (
    COMMAND_READ,
    COMMAND_SUBMIT,
    FILE_READ,
    FILE_WRITE,
    HEALTH_READ,
    INIT_NOTIFY,
    METRICS_READ,
    SECRET_NOTIFY,
    SHELL_OPEN,
)
from node_agent.api.bodies import LONG_BODIES, MAX_BODY_BYTES, MOST_LONG_BODIES
from node_agent.api.command_input import STDIN_KEYS, CommandInputApi
from node_agent.api.commands import GET_KEYS, LIST_KEYS, OUTPUT_KEYS, CommandsApi
from node_agent.api.file_contents import READ_KEYS, WRITE_KEYS, FileContentsApi
from node_agent.api.files import DIGEST_KEYS, DIRECTORY_KEYS, ENTRY_KEYS, LINK_KEYS, TARGET_KEYS, TREE_KEYS, FilesApi
from node_agent.api.health import HealthApi
from node_agent.api.init import InitApi
from node_agent.api.output_times import TIMES_KEYS, OutputTimesApi
from node_agent.api.policy import PolicyApi
from node_agent.api.routing import Stale, errors_as_documents, scoped
from node_agent.api.secrets import SecretsApi
from node_agent.api.shells import ShellsApi
from node_agent.exchanges.watch import CallerWatch


@dataclass(frozen=True, slots=True)
class Apis:
    """What answers: one object for each part of the API."""

    health: HealthApi
    commands: CommandsApi
    command_input: CommandInputApi
    output_times: OutputTimesApi
    secrets: SecretsApi
    policy: PolicyApi
    shells: ShellsApi
    init: InitApi
    files: FilesApi
    file_contents: FileContentsApi


def build_application(apis: Apis, watch: CallerWatch, stale: Stale, *, request_seconds: float) -> web.Application:
    """Return the application; the table of routes is the table of scopes, and of the keys that a query may have."""
    app = web.Application(client_max_size=MAX_BODY_BYTES, middlewares=[errors_as_documents])
    app[LONG_BODIES] = asyncio.Semaphore(MOST_LONG_BODIES)
    health, commands, secrets, policy, init = apis.health, apis.commands, apis.secrets, apis.policy, apis.init
    files, contents = apis.files, apis.file_contents
    times = apis.output_times.times
    routes = (
        ("GET", "/v1/health", HEALTH_READ, health.health, (), request_seconds),
        ("GET", "/v1/metrics", METRICS_READ, health.metrics, (), request_seconds),
        ("POST", "/v1/secrets/notice", SECRET_NOTIFY, secrets.notice, (), request_seconds),
        ("GET", "/v1/policy", COMMAND_READ, policy.policy, (), request_seconds),
        ("POST", "/v1/init/notice", INIT_NOTIFY, init.notice, (), request_seconds),
        ("GET", "/v1/commands", COMMAND_READ, commands.list, LIST_KEYS, request_seconds),
        ("GET", "/v1/commands/{command_id}", COMMAND_READ, commands.get, GET_KEYS, request_seconds),
        ("PUT", "/v1/commands/{command_id}", COMMAND_SUBMIT, commands.submit, (), request_seconds),
        ("PUT", "/v1/commands/{command_id}/stdin", COMMAND_SUBMIT, apis.command_input.take, STDIN_KEYS, None),
        ("POST", "/v1/commands/{command_id}/cancel", COMMAND_SUBMIT, commands.cancel, (), request_seconds),
        ("GET", "/v1/commands/{command_id}/output", COMMAND_READ, commands.output, OUTPUT_KEYS, None),
        ("GET", "/v1/commands/{command_id}/output/times", COMMAND_READ, times, TIMES_KEYS, request_seconds),
        ("PUT", "/v1/shells/{shell_id}", SHELL_OPEN, apis.shells.open, (), request_seconds),
        ("GET", "/v1/shells/{shell_id}", SHELL_OPEN, apis.shells.attach, (), request_seconds),
        ("GET", "/v1/files/entry", FILE_READ, files.entry, ENTRY_KEYS, request_seconds),
        ("GET", "/v1/files/tree", FILE_READ, files.tree, TREE_KEYS, None),
        ("GET", "/v1/files/digest", FILE_READ, files.digest, DIGEST_KEYS, None),
        ("GET", "/v1/files/content", FILE_READ, contents.read, READ_KEYS, None),
        ("GET", "/v1/files/target", FILE_WRITE, files.target, TARGET_KEYS, request_seconds),
        ("PUT", "/v1/files/content", FILE_WRITE, contents.write, WRITE_KEYS, None),
        ("PUT", "/v1/files/directory", FILE_WRITE, files.make_directory, DIRECTORY_KEYS, request_seconds),
        ("PUT", "/v1/files/link", FILE_WRITE, files.make_link, LINK_KEYS, request_seconds),
    )
    for method, path, scope, handler, keys, seconds in routes:
        app.router.add_route(method, path, scoped(scope, handler, watch, stale, query_keys=keys, seconds=seconds))
    app.on_response_prepare.append(_sign)
    return app


async def _sign(request: web.Request, response: web.StreamResponse) -> None:
    """Name the agent, in place of the versions of what it is built from."""
    response.headers["Server"] = "trunkline-node-agent"
