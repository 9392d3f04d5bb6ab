import tomllib
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from node_agent.commands.admission import (
    Asked,
    CommandGrant,
    Standing,
    admit,
    refusal_of_caller,
    refusal_of_metadata,
    refusal_of_stdin,
    refusal_of_token,
)
from node_agent.commands.errors import CommandRefusal, PolicyRule, RefusalReason
from node_agent.commands.records import CommandRecord
from node_agent.commands.submission import Submission
from node_agent.commands.submitter import Submitter
from node_agent.policy import CommandRules

CALLER = Submitter("operator", "jti-1")
WEDNESDAY_NOON = datetime(2026, 11, 25, 12, tzinfo=UTC).timestamp()
IDLE = Standing(now=WEDNESDAY_NOON, stopping=False, unfinished=0, remembered=0, most_remembered=100)
NO_SECRETS = CommandRefusal(RefusalReason.POLICY, "not these", PolicyRule.ALLOWED_SCOPES)
AT_NIGHT = [{"start": "22:00", "end": "06:00"}]


def decide(rules=None, submission=None, submitter=CALLER, **standing):
    asked = Asked("c-1", submission or Submission(argv=["true"]), submitter)
    return admit(asked, CommandRules.model_validate(rules or {}), replace(IDLE, **standing))


def given(**fields):
    return Submission(argv=["true"], **fields)


def test_what_nothing_speaks_against_is_taken_as_it_is():
    taken = decide({"run_as": "nobody"}, Submission(argv=["echo", "$(id)"], working_directory="/tmp"))
    assert taken == CommandGrant(["echo", "$(id)"], "nobody", "/tmp", 3600.0)


@pytest.mark.parametrize(
    ("rules", "submission", "standing"),
    [
        ({"allowed_subjects": ["operator"]}, None, {}),
        ({"allowed_users": ["daemon"]}, given(user="daemon"), {}),
        ({"max_concurrent": 1, "max_queued": 1}, None, {"unfinished": 1}),
        ({}, None, {"token_command": "c-1"}),
        ({"schedule": [{"days": ["wed"], "start": "11:00", "end": "13:00"}]}, None, {}),
        ({"environment": {"allowed": ["APP_*"], "forbidden": ["APP_NOT"]}}, given(environment={"APP_X": "1"}), {}),
        ({"environment": {"forbidden": ["LD_*"]}}, given(environment={"LD": "1"}), {}),
        ({}, given(environment={"LD_PRELOAD": "/tmp/x.so"}), {}),
    ],
)
def test_what_the_owner_allows_is_taken(rules, submission, standing):
    assert isinstance(decide(rules, submission, **standing), CommandGrant)


@pytest.mark.parametrize(
    ("rule", "rules", "submission"),
    [
        (PolicyRule.COMMANDS_ENABLED, {"enabled": False}, None),
        (PolicyRule.ALLOWED_SUBJECTS, {"allowed_subjects": ["another"]}, None),
        (PolicyRule.BODY_BINDING, {"require_body_binding": True}, None),
        (PolicyRule.ALLOW, {"allow": "named"}, None),
        (PolicyRule.SCHEDULE, {"schedule": AT_NIGHT}, None),
        (PolicyRule.ALLOWED_USERS, {"run_as": "nobody"}, given(user="daemon")),
        (PolicyRule.ENVIRONMENT_ALLOWED, {"environment": {"allowed": ["A"]}}, given(environment={"AB": ""})),
        (PolicyRule.ENVIRONMENT_ALLOWED, {"environment": {"allowed": []}}, given(environment={"A": ""})),
        (PolicyRule.ENVIRONMENT_FORBIDDEN, {"environment": {"forbidden": ["LD_*"]}}, given(environment={"LD_X": ""})),
        (
            PolicyRule.ENVIRONMENT_FORBIDDEN,
            {"environment": {"forbidden": ["LD_*"]}},
            given(secrets={"environment": {"LD_PRELOAD": "scope/key"}}),
        ),
    ],
)
def test_a_refusal_names_the_owners_rule(rule, rules, submission):
    refused = decide(rules, submission)
    assert (refused.reason, refused.rule, refused.policy_rule) == (RefusalReason.POLICY, rule, rule.value)
    assert str(refused).endswith(f"(policy rule {rule.value})")


def test_a_bound_token_satisfies_an_owner_who_asks_for_it():
    bound = Submitter("operator", "jti-1", bound=True)
    assert isinstance(decide({"require_body_binding": True}, submitter=bound), CommandGrant)


def test_what_refuses_the_secrets_refuses_the_command():
    assert decide(secrets=NO_SECRETS) is NO_SECRETS


def test_a_full_queue_is_the_owners_bound_and_a_full_memory_is_not():
    queue = decide({"max_concurrent": 1, "max_queued": 1}, unfinished=2)
    assert (queue.reason, queue.rule) == (RefusalReason.TOO_MANY, PolicyRule.MAX_QUEUED)
    memory = decide(remembered=100)
    assert (memory.reason, memory.rule) == (RefusalReason.TOO_MANY, None)


def test_a_token_is_good_for_one_command():
    assert decide(token_command="c-2").reason is RefusalReason.REPLAYED_TOKEN
    assert refusal_of_token("c-1", "c-1") is refusal_of_token("c-1", None) is None


def test_an_agent_that_stops_says_so_first():
    assert decide({"enabled": False}, stopping=True, token_command="c-2").reason is RefusalReason.STOPPING


def test_whoever_may_not_submit_may_not_cancel():
    named = {"restart": {"argv": ["true"], "allowed_subjects": ["another"]}}
    assert refusal_of_caller(rules(allowed_subjects=["operator"]), "operator", None) is None
    assert refusal_of_caller(rules(allowed_subjects=[]), "operator", None).rule is PolicyRule.ALLOWED_SUBJECTS
    assert refusal_of_caller(rules(enabled=False), "operator", None).rule is PolicyRule.COMMANDS_ENABLED
    assert refusal_of_caller(rules(named=named), "operator", "restart").rule is PolicyRule.NAMED_SUBJECTS
    assert refusal_of_caller(rules(named=named), "another", "restart") is None
    assert refusal_of_caller(rules(named=named), "operator", "no longer named") is None


def streamed(*, asked=True):
    return CommandRecord("c-1", "", ["cat"], 0, "operator", "", "", stdin_streamed=asked)


def test_only_who_submitted_a_command_brings_its_input_and_only_where_it_takes_one():
    assert refusal_of_stdin(streamed(), "operator", rules(), bound=False) is None
    assert refusal_of_stdin(streamed(), "another", rules(), bound=True).reason is RefusalReason.UNKNOWN
    unasked = refusal_of_stdin(streamed(asked=False), "operator", rules(), bound=True)
    assert unasked.reason is RefusalReason.NOT_STREAMED


def test_an_owner_who_requires_bound_tokens_requires_them_of_each_part_of_an_input():
    required = rules(require_body_binding=True)
    assert refusal_of_stdin(streamed(), "operator", required, bound=True) is None
    assert refusal_of_stdin(streamed(), "operator", required, bound=False).rule is PolicyRule.BODY_BINDING


def rules(**fields):
    return CommandRules.model_validate(fields)


def test_an_owner_who_requires_it_has_no_command_that_could_reach_the_metadata_service():
    required = {"run_as": "nobody", "allowed_users": ["daemon"], "block_metadata": "require"}
    assert isinstance(decide(required, kept_from_metadata=frozenset({"nobody"})), CommandGrant)
    refused = decide(required, given(user="daemon"), kept_from_metadata=frozenset({"nobody"}))
    assert refused.policy_rule == "commands.block_metadata"
    assert decide(required).rule is PolicyRule.BLOCK_METADATA
    assert refusal_of_metadata(rules(block_metadata="require"), None, frozenset()) is not None
    assert isinstance(decide(required | {"block_metadata": "auto"}), CommandGrant)


NAMED = tomllib.loads(
    """
    allow = "named"
    run_as = "nobody"
    max_timeout_seconds = 600.0

    [named.restart-service]
    argv = ["systemctl", "restart", "{service}"]
    user = "root"
    timeout_seconds = 60.0
    working_directory = "/srv"
    allowed_subjects = ["operator"]
    schedule = [{ days = ["wed"], start = "11:00", end = "13:00" }]
    environment = ["APP_*", "PATH"]

    [named.restart-service.parameters.service]
    type = "string"
    enum = ["nginx", "postgresql"]

    [named.read]
    argv = ["cat"]
    stdin = true
    """
)


def restart(**fields):
    return Submission(named="restart-service", parameters={"service": "nginx"}, **fields)


def test_a_named_command_becomes_what_its_owner_wrote():
    expected = CommandGrant(["systemctl", "restart", "nginx"], "root", "/srv", 60.0)
    assert decide(NAMED, restart()) == expected
    assert decide(NAMED, restart(user="root", working_directory="/srv", timeout_seconds=3600)) == expected
    assert decide(NAMED, restart(timeout_seconds=5)).timeout_seconds == 5
    assert decide(NAMED, Submission(named="read", stdin=b"x")) == CommandGrant(["cat"], "nobody", None, 600.0)
    assert isinstance(decide(NAMED, restart(environment={"APP_MODE": "x", "PATH": "/bin"})), CommandGrant)


@pytest.mark.parametrize(
    ("rule", "policy_rule", "submission"),
    [
        (PolicyRule.NAMED, "commands.named", Submission(named="other")),
        (PolicyRule.NAMED_USER, "commands.named.restart-service.user", restart(user="nobody")),
        (
            PolicyRule.NAMED_DIRECTORY,
            "commands.named.read.working_directory",
            Submission(named="read", working_directory="/"),
        ),
        (PolicyRule.NAMED_STDIN, "commands.named.restart-service.stdin", restart(stdin=b"x")),
        (PolicyRule.NAMED_STDIN, "commands.named.restart-service.stdin", restart(stdin_stream=True)),
        (
            PolicyRule.NAMED_ENVIRONMENT,
            "commands.named.read.environment",
            Submission(named="read", environment={"A": ""}),
        ),
        (
            PolicyRule.NAMED_ENVIRONMENT,
            "commands.named.restart-service.environment",
            restart(secrets={"environment": {"LD_PRELOAD": "scope/key"}}),
        ),
        (
            PolicyRule.NAMED_PARAMETERS,
            "commands.named.restart-service.parameters.service",
            Submission(named="restart-service", parameters={"service": "sshd"}),
        ),
        (
            PolicyRule.NAMED_PARAMETERS,
            "commands.named.restart-service.parameters.service",
            Submission(named="restart-service"),
        ),
        (
            PolicyRule.NAMED_PARAMETERS,
            "commands.named.read.parameters.more",
            Submission(named="read", parameters={"more": 1}),
        ),
    ],
)
def test_a_refusal_of_a_named_command_names_the_rule_and_the_command(rule, policy_rule, submission):
    refused = decide(NAMED, submission)
    assert (refused.reason, refused.rule, refused.policy_rule) == (RefusalReason.POLICY, rule, policy_rule)


def test_a_named_command_has_callers_and_times_of_its_own():
    assert decide(NAMED, restart(), Submitter("another")).rule is PolicyRule.NAMED_SUBJECTS
    assert decide(NAMED, restart(), now=WEDNESDAY_NOON + 86400).rule is PolicyRule.NAMED_SCHEDULE
    assert decide(NAMED | {"schedule": AT_NIGHT}, restart()).rule is PolicyRule.SCHEDULE


def test_named_commands_are_there_beside_free_ones():
    both = NAMED | {"allow": "any"}
    assert isinstance(decide(both), CommandGrant)
    assert isinstance(decide(both, restart()), CommandGrant)


def test_a_pattern_for_variables_never_means_those_that_choose_code():
    everything = {"named": {"x": {"argv": ["true"], "environment": ["L*", "P*", "LD_PRELOAD"]}}}

    def named(name):
        return decide(everything, Submission(named="x", environment={name: ""}))

    for name in ("LD_LIBRARY_PATH", "PATH", "PYTHONPATH", "PERL5LIB", "APP"):
        assert named(name).rule is PolicyRule.NAMED_ENVIRONMENT
    for name in ("LANG", "PORT", "LD_PRELOAD"):
        assert isinstance(named(name), CommandGrant)


INIT = Submitter("control-plane", bound=True, initialises=True)


def test_an_init_script_is_bound_by_the_owners_init_rules_in_place_of_those_of_other_commands():
    rules = {
        "run_as": "nobody",
        "allow": "named",
        "schedule": AT_NIGHT,
        "require_body_binding": True,
        "environment": {"allowed": []},
        "max_timeout_seconds": 60.0,
    }
    taken = decide(rules, given(user="daemon", environment={"DB_CLUSTER_ID": "x"}, timeout_seconds=3600.0), INIT)
    assert taken == CommandGrant(["true"], "daemon", None, 60.0)
    assert isinstance(decide(rules, given(user="daemon")), CommandRefusal), "nobody else may"


@pytest.mark.parametrize(
    ("rule", "rules", "standing"),
    [
        (PolicyRule.COMMANDS_ENABLED, {"enabled": False}, {}),
        (PolicyRule.ALLOWED_SUBJECTS, {"allowed_subjects": ["another"]}, {}),
        (PolicyRule.ALLOWED_SCOPES, {}, {"secrets": NO_SECRETS}),
        (PolicyRule.MAX_QUEUED, {"max_concurrent": 1, "max_queued": 0}, {"unfinished": 1}),
    ],
)
def test_what_refuses_init_scripts_too(rule, rules, standing):
    refusal = decide(rules, None, INIT, **standing)
    assert isinstance(refusal, CommandRefusal)
    assert refusal.rule is rule
