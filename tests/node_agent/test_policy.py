import tomllib

import pytest

from node_agent.policy import Narrowing, Policy, parse_policy


def policy(text):
    return parse_policy(tomllib.loads(text))


def test_without_a_file_there_are_no_ports_and_no_checks():
    empty = Policy()
    assert (empty.ports, empty.checks) == ({}, ())
    assert empty.commands.run_as is None


def test_everything_that_a_policy_can_say():
    parsed = policy(
        """
        [commands]
        enabled = true
        run_as = "deploy"
        allowed_users = ["spark"]
        allowed_subjects = ["operator:one"]
        max_concurrent = 2
        max_queued = 0
        default_timeout_seconds = 60
        max_timeout_seconds = 600
        max_output_bytes = 4096
        require_body_binding = true
        [ports.9100]
        shared = true
        [ports.4040]
        address = "::1"
        [[checks]]
        name = "disk"
        argv = ["/bin/true"]
        """
    )
    assert sorted(parsed.ports) == [4040, 9100]
    assert parsed.ports[9100].shared
    assert parsed.commands.timeout_seconds(None) == 60
    assert parsed.commands.timeout_seconds(10_000) == 600
    assert parsed.commands.allows_subject("operator:one")
    assert not parsed.commands.allows_subject("operator:two")
    assert parsed.checks[0].timeout_seconds == 10.0


@pytest.mark.parametrize(
    "text",
    [
        "shell = true",
        "[commands]\nshell = true",
        "[commands]\nenabled = 'yes'",
        "[commands]\nrun_as = '../x'",
        "[commands]\nmax_concurrent = 0",
        "[commands]\nallow = 'shell'",
        "[commands]\nschedule = []",
        "[commands]\nenvironment = ['A']",
        "[commands.environment]\nallowed = ['A-B']",
        "[commands.named.Restart]\nargv = ['x']",
        "[commands.named.restart]",
        "[commands]\nmax_timeout_seconds = -1",
        "[ports.80]",
        "[ports.443]",
        "[ports.0]",
        "[ports.65536]",
        "[ports.ssh]",
        "[ports.'08080']",
        "[ports.'-1']",
        "[ports.9100]\naddress = '169.254.169.254'",
        "[ports.9100]\naddress = '0.0.0.0'",
        "[ports.9100]\naddress = 'localhost'",
        "ports = [9100]",
        "[[checks]]\nname = 'a'",
        "[[checks]]\nname = 'A b'\nargv = ['x']",
        "[[checks]]\nname = 'a'\nargv = []",
        "[[checks]]\nname = 'a'\nargv = ['x']\n[[checks]]\nname = 'a'\nargv = ['y']",
    ],
)
def test_what_a_policy_cannot_say(text):
    with pytest.raises(ValueError, match=r"."):
        policy(text)


def test_the_control_plane_only_narrows():
    owner = policy("[commands]\nmax_concurrent = 4\nmax_timeout_seconds = 100\n[ports.9100]\n[ports.4040]")
    wider = owner.narrowed(
        Narrowing(commands_enabled=True, max_concurrent_commands=99, max_timeout_seconds=1e9, ports=[9100, 4040, 22])
    )
    assert wider == owner
    narrower = owner.narrowed(
        Narrowing(
            commands_enabled=False,
            max_concurrent_commands=1,
            max_timeout_seconds=5.0,
            require_body_binding=True,
            ports=[9100],
        )
    )
    assert sorted(narrower.ports) == [9100]
    assert narrower.commands.model_dump(include={"enabled", "max_concurrent", "require_body_binding"}) == {
        "enabled": False,
        "max_concurrent": 1,
        "require_body_binding": True,
    }
    assert narrower.commands.max_timeout_seconds == 5


def test_what_the_owner_forbids_stays_forbidden():
    owner = policy("[commands]\nenabled = false")
    assert not owner.narrowed(Narrowing(commands_enabled=True)).commands.enabled
    bound = policy("[commands]\nrequire_body_binding = true")
    assert bound.narrowed(Narrowing(require_body_binding=False)).commands.require_body_binding


@pytest.mark.parametrize(
    "taken",
    [
        Narrowing(commands_enabled=False),
        Narrowing(named_commands_only=True),
        Narrowing(require_body_binding=True),
    ],
)
def test_what_the_control_plane_takes_from_commands_it_takes_from_shells(taken):
    owner = policy("[shell]\nenabled = true")
    assert owner.narrowed(Narrowing()).allows_shells
    assert not owner.narrowed(taken).allows_shells


@pytest.mark.parametrize(
    "rules", ["enabled = false", "allow = 'named'", "require_body_binding = true", "schedule = [{ days = ['wed'] }]"]
)
def test_where_not_every_command_is_free_shells_and_files_are_the_owners_to_allow(rules):
    owner = policy(f"[commands]\n{rules}")
    assert not any((owner.allows_shells, owner.allows_reading_files, owner.allows_writing_files))


NAMED = "[commands.named.one]\nargv = ['true']\n[commands.named.two]\nargv = ['true']\n"


def test_the_control_plane_can_take_named_commands_and_free_ones_away_and_give_none():
    owner = policy(NAMED)
    narrower = owner.narrowed(Narrowing(named_commands_only=True, named_commands=["two", "three"])).commands
    assert (narrower.allow, list(narrower.named)) == ("named", ["two"])
    named_only = policy("[commands]\nallow = 'named'\n" + NAMED)
    assert named_only.narrowed(Narrowing()) == named_only


@pytest.mark.parametrize(
    ("text", "enabled"),
    [
        ("", True),
        ("[init]\nenabled = true\n", True),
        ("[init]\nenabled = false\n", False),
        ("[commands]\nenabled = false\n", False),
        ("[commands]\nenabled = false\n[init]\nenabled = true\n", False),
        ("[commands]\nallow = 'named'\n", False),
        ("[commands]\nallow = 'named'\n[init]\nenabled = true\n", True),
    ],
)
def test_init_scripts_run_where_any_command_may_or_the_owner_says_so(text, enabled):
    assert policy(text).init_enabled is enabled
    assert not policy(text).narrowed(Narrowing(commands_enabled=False)).init_enabled


@pytest.mark.parametrize("wrong", ["run_as = 'Root!'", "timeout_seconds = 0", "shell = true", "enabled = 'yes'"])
def test_what_init_rules_cannot_say(wrong):
    with pytest.raises(ValueError, match=r"init\."):
        policy(f"[init]\n{wrong}\n")
