"""Join policies as rules: which machines one is for, which of several decides, and the node's name that it gives.

A policy is a conjunction: each condition that it states must hold, and a condition that a platform cannot answer for
never does. Where several of a workspace's policies match, the one with the most conditions decides, and of equals the
first by name.
"""

import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from control_plane.attestation.machine import AttestedMachine, Platform
from control_plane.names import LONGEST_NAME, checked_name
from control_plane.storage.records.joining import JoinPolicy

CONDITIONS: Mapping[Platform, frozenset[str]] = {
    Platform.AZURE: frozenset(
        {"tenants", "accounts", "resource_groups", "scale_sets", "identities", "regions", "tags"}
    ),
    Platform.AWS: frozenset({"accounts", "identities", "regions"}),
    Platform.GCP: frozenset({"accounts", "identities", "regions"}),
}
"""What each platform vouches for, and so what a policy may ask of its machines."""
TEMPLATE_FIELDS = ("name", "account", "resource_group", "scale_set", "region", "platform")

_TEMPLATE = re.compile(rf"(?:[a-z0-9-]|\{{(?:{'|'.join(TEMPLATE_FIELDS)})\}})+", re.ASCII)
_PART = re.compile(rf"\{{({'|'.join(TEMPLATE_FIELDS)})\}}")


def check_conditions(platform: Platform, conditions: Mapping[str, Any]) -> None:
    """Refuse conditions that would admit whole clouds, or could never hold.

    Raises:
        ValueError: one is not of this platform, or neither a tenant nor an account is named.
    """
    foreign = sorted(set(conditions) - CONDITIONS[platform])
    if foreign:
        raise ValueError(f"{platform} does not vouch for {', '.join(foreign)}")
    if not conditions.get("accounts") and not conditions.get("tenants"):
        raise ValueError("must name accounts (or tenants, for azure): else whoever has an account there could join")


def normal_conditions(platform: Platform, conditions: Mapping[str, Any]) -> dict[str, Any]:
    """The conditions as they are stored and compared: on Azure, where case means nothing, in lower case."""
    kept = {name: value for name, value in conditions.items() if value}
    if platform is not Platform.AZURE:
        return kept
    lists = {name: [one.lower() for one in value] for name, value in kept.items() if name != "tags"}
    tags = {name.lower(): value for name, value in kept.get("tags", {}).items()}
    return lists | ({"tags": tags} if tags else {})


def matches(conditions: Mapping[str, Any], machine: AttestedMachine) -> bool:
    """Tell whether every condition holds for the machine."""
    stated: Mapping[str, Collection[str | None]] = {
        "tenants": {machine.tenant},
        "accounts": {machine.account},
        "resource_groups": {machine.resource_group},
        "scale_sets": {machine.scale_set},
        "identities": machine.identities,
        "regions": {machine.region},
    }
    tags = {name.lower(): value for name, value in machine.tags.items()}
    for name, wanted in conditions.items():
        if name == "tags":
            if any(tags.get(tag) != value for tag, value in wanted.items()):
                return False
        elif not set(wanted) & set(stated.get(name, ())):
            return False
    return True


def deciding(policies: Sequence[JoinPolicy]) -> JoinPolicy:
    """The policy that decides, of several that match."""
    return min(policies, key=lambda policy: (-_weight(policy.conditions), policy.join_policy))


def check_template(template: str) -> str:
    """Return the template of a node's name, if it is one.

    Raises:
        ValueError: it holds anything but lower-case letters, digits, hyphens and the fields that are known.
    """
    if not _TEMPLATE.fullmatch(template):
        fields = ", ".join(f"{{{name}}}" for name in TEMPLATE_FIELDS)
        raise ValueError(f"must be lower-case letters, digits, hyphens and the fields {fields}")
    return template


def rendered_name(template: str, machine: AttestedMachine) -> str | None:
    """The name that the template gives the machine, as a DNS label; None if nothing is left of it."""

    def value(found: re.Match[str]) -> str:
        return str(getattr(machine, found[1]) or "")

    text = re.sub(r"[^a-z0-9]+", "-", _PART.sub(value, template).lower())[:LONGEST_NAME].strip("-")
    try:
        return checked_name(text)
    except ValueError:
        return None


def _weight(conditions: Mapping[str, Any]) -> int:
    return sum(len(value) if name == "tags" else 1 for name, value in conditions.items())
