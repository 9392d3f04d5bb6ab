"""`trunkline join-policy`: which machines become nodes by what their cloud says of them."""

from __future__ import annotations

from typing import Any

import click

from trunkline.cli.arguments import YES, confirm, pairs_of
from trunkline.cli.examples import examples
from trunkline.cli.output import print_done, print_record, print_records
from trunkline.cli.session import Invocation, connected

COLUMNS = ("join_policy", "join_policy_id", "platform", "conditions", "node_name", "reattestation")
_LISTS = (
    ("--tenant", "tenants", "An Azure tenant."),
    ("--account", "accounts", "An Azure subscription, AWS account, or GCP project."),
    ("--resource-group", "resource_groups", "An Azure resource group."),
    ("--scale-set", "scale_sets", "An Azure scale set."),
    ("--identity", "identities", "An object or application id, a role's ARN, or a service account."),
    ("--region", "regions", "A region."),
)


@click.group("join-policy")
def join_policy() -> None:
    """Join policies: which machines become nodes by what their cloud says of them."""


def _conditions(command: Any) -> Any:
    for option, name, text in reversed(_LISTS):
        command = click.option(option, name, multiple=True, metavar="ID", help=f"{text} Any of several.")(command)
    return command


@join_policy.command(
    "create",
    epilog=examples(
        "join-policy create web --platform azure --account SUBSCRIPTION --resource-group web --node-name 'web-{name}'"
    ),
)
@click.argument("name")
@click.option("--platform", required=True, type=click.Choice(["azure", "aws", "gcp"]), help="Who vouches.")
@_conditions
@click.option("--tag", "tags", multiple=True, metavar="K=V", help="A tag that the machine has; all of several.")
@click.option("--node-name", metavar="TEMPLATE", help="The nodes' names, e.g. web-{name}.")
@click.option("--label", "labels", multiple=True, metavar="K=V", help="A label that the nodes get.")
@click.option("--cluster", metavar="NAME", help="The cluster that the nodes join.")
@click.option(
    "--reattest", type=click.Choice(["auto", "window", "approval"]), default="auto", show_default=True,
    help="When a known machine may prove itself again.",
)  # fmt: skip
@click.option("--window", "window_seconds", type=click.IntRange(min=1), metavar="SECONDS", help="How long it may.")
@click.option("--since", type=click.Choice(["first-bootstrap", "last-seen"]), help="From when on the window counts.")
@connected
def create(
    invocation: Invocation,
    name: str,
    platform: str,
    tags: tuple[str, ...],
    node_name: str | None,
    labels: tuple[str, ...],
    cluster: str | None,
    reattest: str,
    window_seconds: int | None,
    since: str | None,
    **lists: tuple[str, ...],
) -> None:
    """Create the policy NAME: machines for which every condition holds become nodes of the workspace."""
    conditions: dict[str, Any] = {condition: list(values) for condition, values in lists.items() if values}
    if tags:
        conditions["tags"] = pairs_of(tags, "--tag")
    rule = {"mode": reattest, "seconds": window_seconds, "since": since.replace("-", "_") if since else None}
    wanted = pairs_of(labels, "--label")
    record = invocation.call(
        lambda session: session.workspace.join_policies.create(
            name,
            platform,
            conditions,
            node_name=node_name,
            labels=wanted,
            cluster=cluster,
            reattestation={key: value for key, value in rule.items() if value is not None},
        )
    )
    print_record(record, invocation.output)


@join_policy.command("list")
@connected
def list_(invocation: Invocation) -> None:
    """List all policies of the workspace."""
    records = invocation.collect(lambda session: session.workspace.join_policies.list())
    print_records("join_policies", records, COLUMNS, invocation.output)


@join_policy.command("get")
@click.argument("name")
@connected
def get(invocation: Invocation, name: str) -> None:
    """Show one policy by its name or id."""
    print_record(invocation.call(lambda session: session.workspace.join_policies.get(name)), invocation.output)


@join_policy.command("delete")
@click.argument("name")
@YES
@connected
def delete(invocation: Invocation, name: str, yes: bool) -> None:
    """Delete a policy by its name or id; nodes that joined by it stay."""
    confirm("Delete the join policy? Its machines cannot prove themselves again.", yes=yes)
    invocation.call(lambda session: session.workspace.join_policies.delete(name))
    print_done(f"deleted {name}", invocation.output)
