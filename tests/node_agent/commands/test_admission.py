from dataclasses import replace

import pytest

from node_agent.commands.admission import Standing, refusal_of_caller, refusal_of_submit, refusal_of_token
from node_agent.commands.errors import CommandRefusal, PolicyRule, RefusalReason
from node_agent.commands.submission import Submission
from node_agent.commands.submitter import Submitter
from node_agent.policy import CommandRules

CALLER = Submitter("operator", "jti-1")
IDLE = Standing(stopping=False, unfinished=0, remembered=0, most_remembered=100)
NO_SECRETS = CommandRefusal(RefusalReason.POLICY, "not these", PolicyRule.ALLOWED_SCOPES)


def refusal(rules=None, submission=None, submitter=CALLER, secrets=None, **standing):
    submission = submission or Submission(argv=["true"])
    rules = CommandRules(**(rules or {}))
    return refusal_of_submit("c-1", submission, submitter, rules, secrets, replace(IDLE, **standing))


def test_what_nothing_speaks_against_is_taken():
    assert refusal() is None
    assert refusal({"allowed_subjects": ("operator",)}) is None
    assert refusal({"require_body_binding": True}, submitter=Submitter("operator", "jti-1", bound=True)) is None
    assert refusal({"allowed_users": ("daemon",)}, Submission(argv=["true"], user="daemon")) is None
    assert refusal({"max_concurrent": 1, "max_queued": 1}, unfinished=1) is None
    assert refusal(token_command="c-1") is None


@pytest.mark.parametrize(
    ("rule", "rules", "submission"),
    [
        (PolicyRule.COMMANDS_ENABLED, {"enabled": False}, None),
        (PolicyRule.ALLOWED_SUBJECTS, {"allowed_subjects": ("another",)}, None),
        (PolicyRule.BODY_BINDING, {"require_body_binding": True}, None),
        (PolicyRule.ALLOWED_USERS, {"run_as": "nobody"}, Submission(argv=["true"], user="daemon")),
    ],
)
def test_a_refusal_names_the_owners_rule(rule, rules, submission):
    refused = refusal(rules, submission)
    assert (refused.reason, refused.rule) == (RefusalReason.POLICY, rule)


def test_what_refuses_the_secrets_refuses_the_command():
    assert refusal(secrets=NO_SECRETS) is NO_SECRETS


def test_a_full_queue_is_the_owners_bound_and_a_full_memory_is_not():
    queue = refusal({"max_concurrent": 1, "max_queued": 1}, unfinished=2)
    assert (queue.reason, queue.rule) == (RefusalReason.TOO_MANY, PolicyRule.MAX_QUEUED)
    memory = refusal(remembered=100)
    assert (memory.reason, memory.rule) == (RefusalReason.TOO_MANY, None)


def test_a_token_is_good_for_one_command():
    assert refusal(token_command="c-2").reason is RefusalReason.REPLAYED_TOKEN
    assert refusal_of_token("c-1", "c-1") is refusal_of_token("c-1", None) is None


def test_an_agent_that_stops_says_so_first():
    assert refusal({"enabled": False}, stopping=True, token_command="c-2").reason is RefusalReason.STOPPING


def test_whoever_may_not_submit_may_not_cancel():
    assert refusal_of_caller(CommandRules(allowed_subjects=("operator",)), "operator") is None
    assert refusal_of_caller(CommandRules(allowed_subjects=()), "operator").rule is PolicyRule.ALLOWED_SUBJECTS
    assert refusal_of_caller(CommandRules(enabled=False), "operator").rule is PolicyRule.COMMANDS_ENABLED
