import asyncio
import pwd

import pytest

from node_agent.commands.accounts import LookupFailed
from node_agent.policy import parse_policy
from node_agent.protection.firewall import FirewallUnavailable
from node_agent.protection.metadata_block import BlockState, MetadataBlock, command_users, uids_of

UIDS = {"nobody": 65534, "deploy": 1001, "app": 1002, "root": 0, "agent": 500}


class KeptFirewall:
    """A firewall in memory."""

    def __init__(self, name="nftables", fault=None):
        self.name = name
        self.fault = fault
        self.uids = None
        self.applied = 0

    async def apply(self, uids):
        self._may()
        self.uids = frozenset(uids)
        self.applied += 1

    async def intact(self):
        return self.uids is not None

    async def remove(self):
        self._may()
        self.uids = None

    def _may(self):
        if self.fault is not None:
            raise FirewallUnavailable(self.fault)


class Meter:
    def __init__(self):
        self.states = []

    def metadata_blocked(self, state):
        self.states.append(state)


@pytest.fixture
def rules(policy_file, policy):
    def write(text):
        policy_file.write_text(f"[commands]\n{text}\n")
        assert policy.reload()

    write("run_as = 'nobody'")
    return write


@pytest.fixture
def make(policy, log, rules):
    def make(*firewalls, own_uid=0):
        def find(users):
            return {user or "agent": UIDS[user or "agent"] for user in users if (user or "agent") in UIDS}

        return MetadataBlock(policy, firewalls, Meter(), log, find_uids=find, own_uid=own_uid)

    return make


def test_every_user_that_commands_may_run_as_is_found():
    commands = {"run_as": "nobody", "allowed_users": ["deploy"], "named": {"x": {"argv": ["true"], "user": "app"}}}
    policy = parse_policy({"commands": commands, "init": {"run_as": "setup"}})
    assert command_users(policy) == {"nobody", "deploy", "app", "setup"}
    without = parse_policy({"commands": commands, "init": {"run_as": "setup", "enabled": False}})
    assert command_users(without) == {"nobody", "deploy", "app"}


def test_users_that_there_are_not_are_left_out():
    assert uids_of({"root", "no-such-user"}) == {"root": 0}


def test_the_homes_of_users_are_nothing_to_it(monkeypatch):
    deploy = pwd.struct_passwd(("deploy", "x", 1001, 1001, "", "/" + "x" * 300, "/bin/sh"))
    monkeypatch.setattr(pwd, "getpwnam", {"deploy": deploy}.__getitem__)
    assert uids_of({"deploy"}) == {"deploy": 1001}


async def test_the_users_of_commands_are_blocked_and_the_policy_is_followed(make, rules, until):
    firewall = KeptFirewall()
    block = make(firewall)
    assert block.blocked_users() == frozenset()
    await block.look()
    assert (firewall.uids, block.standing.state) == ({65534}, BlockState.ENFORCED)
    assert block.standing.document() == {
        "mode": "auto", "state": "enforced", "by": "nftables", "users": ["nobody"], "open_to": [],
    }  # fmt: skip
    running = asyncio.create_task(block.run())
    rules("run_as = 'nobody'\nallowed_users = ['deploy', 'unknown']")
    await until(lambda: block.blocked_users() == {"nobody", "deploy"})
    assert firewall.uids == {65534, 1001}
    running.cancel()


async def test_who_cannot_be_looked_up_at_present_stays_blocked(make, rules):
    def fail(users):
        raise LookupFailed("no descriptors")

    firewall = KeptFirewall()
    block = make(firewall)
    await block.look()
    block._find_uids = fail
    await block.look()
    assert (firewall.uids, block.standing.state) == ({65534}, BlockState.UNAVAILABLE)
    assert block.standing.reason == "no descriptors"


async def test_root_and_the_agents_own_user_cannot_be_blocked(make, rules):
    firewall = KeptFirewall()
    rules("run_as = 'root'\nallowed_users = ['deploy', 'agent']")
    block = make(firewall, own_uid=500)
    await block.look()
    assert (firewall.uids, block.standing.state) == ({1001}, BlockState.PARTIAL)
    assert block.standing.open_to == {"root", "agent"}
    rules("run_as = 'root'")
    await block.look()
    assert (block.standing.state, block.blocked_users()) == (BlockState.UNAVAILABLE, frozenset())


async def test_the_next_firewall_is_tried_and_without_any_it_is_said(make, log, logged):
    second = KeptFirewall("iptables")
    block = make(KeptFirewall(fault="nft is not installed"), second)
    await block.look()
    assert (block.standing.by, second.uids) == ("iptables", {65534})
    second.fault, second.uids = "iptables may not", None
    await block.look()
    assert (block.standing.state, block.standing.users) == (BlockState.UNAVAILABLE, frozenset())
    assert block.standing.reason == "nft is not installed; iptables may not"
    entry = next(entry for entry in logged.entries if entry["event"] == "metadata.not_blocked")
    assert (entry["log_level"], entry["reason"]) == ("warning", block.standing.reason)


async def test_rules_that_somebody_removed_are_made_again_and_others_are_left(make, logged):
    firewall = KeptFirewall()
    block = make(firewall)
    await block.look()
    await block.look()
    assert firewall.applied == 1
    firewall.uids = None
    await block.look()
    assert firewall.applied == 2
    assert "metadata.rules_gone" in [entry["event"] for entry in logged.entries]


async def test_off_removes_what_was_there(make, rules):
    firewall = KeptFirewall()
    block = make(firewall)
    await block.look()
    rules("run_as = 'nobody'\nblock_metadata = 'off'")
    await block.look()
    assert (firewall.uids, block.standing.state) == (None, BlockState.OFF)


@pytest.mark.parametrize("commands_go_on", [True, False])
async def test_the_rules_stay_while_commands_go_on_without_the_agent(make, commands_go_on):
    firewall = KeptFirewall()
    block = make(firewall)
    await block.look()
    await block.close(commands_go_on=commands_go_on)
    assert (firewall.uids is not None) == commands_go_on


async def test_an_owner_who_requires_it_hears_an_error(make, rules, logged):
    rules("run_as = 'nobody'\nblock_metadata = 'require'")
    block = make(KeptFirewall(fault="no"))
    await block.look()
    entry = next(entry for entry in logged.entries if entry["event"] == "metadata.not_blocked")
    assert (entry["log_level"], entry["consequence"]) == ("error", "commands as these users are refused")
