"""Admission: whether a command is taken, decided from values alone, with the rule that refuses it.

The questions are asked in a fixed order, and the first that is not answered well refuses. Nothing here has an effect.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from node_agent.commands.accounts import default_user
from node_agent.commands.errors import CommandRefusal, PolicyRule, RefusalReason
from node_agent.commands.submission import Submission
from node_agent.commands.submitter import Submitter
from node_agent.policy import CommandRules


@dataclass(frozen=True, slots=True)
class Standing:
    """How the node stands at the moment of a submit.

    `unfinished` commands run or wait; `remembered` are all that have not been forgotten, of `most_remembered`.
    `token_command` is the command that the submit's token has been used for.
    """

    stopping: bool
    unfinished: int
    remembered: int
    most_remembered: int
    token_command: str | None = None


def refusal_of_submit(
    command_id: str,
    submission: Submission,
    submitter: Submitter,
    rules: CommandRules,
    secrets: CommandRefusal | None,
    standing: Standing,
) -> CommandRefusal | None:
    """Return why a command that is not known yet is not taken, or None; `secrets` is what refuses its secrets."""
    found = _refusals(command_id, submission, submitter, rules, secrets, standing)
    return next((refusal for refusal in found if refusal is not None), None)


def refusal_of_token(command_id: str, token_command: str | None) -> CommandRefusal | None:
    """Return why the token cannot be used for this command: it has been, for another."""
    if token_command in (None, command_id):
        return None
    return CommandRefusal(RefusalReason.REPLAYED_TOKEN, "the token has been used for another command")


def refusal_of_caller(rules: CommandRules, subject: str) -> CommandRefusal | None:
    """Return why the caller may do nothing with commands: neither submit nor cancel."""
    if not rules.enabled:
        return _denied(PolicyRule.COMMANDS_ENABLED, "the node's owner does not allow commands")
    if not rules.allows_subject(subject):
        return _denied(PolicyRule.ALLOWED_SUBJECTS, "the node's owner does not allow this caller to run commands")
    return None


def _refusals(
    command_id: str,
    submission: Submission,
    submitter: Submitter,
    rules: CommandRules,
    secrets: CommandRefusal | None,
    standing: Standing,
) -> Iterator[CommandRefusal | None]:
    if standing.stopping:
        yield CommandRefusal(RefusalReason.STOPPING, "the agent is stopping; try again once it is back")
    yield refusal_of_token(command_id, standing.token_command)
    yield refusal_of_caller(rules, submitter.subject)
    yield _binding(submitter, rules)
    yield _user(submission, rules)
    yield secrets
    yield _room(rules, standing)


def _binding(submitter: Submitter, rules: CommandRules) -> CommandRefusal | None:
    if submitter.bound or not rules.require_body_binding:
        return None
    message = "the node's owner requires a token that is bound to body and command (body_sha256, command_id)"
    return _denied(PolicyRule.BODY_BINDING, message)


def _user(submission: Submission, rules: CommandRules) -> CommandRefusal | None:
    if submission.user is None or submission.user in (default_user(rules.run_as), *rules.allowed_users):
        return None
    message = f"the node's owner does not allow commands to run as {submission.user!r}"
    return _denied(PolicyRule.ALLOWED_USERS, message)


def _room(rules: CommandRules, standing: Standing) -> CommandRefusal | None:
    if standing.unfinished >= rules.max_concurrent + rules.max_queued:
        message = "the queue of commands is full; try again later"
        return CommandRefusal(RefusalReason.TOO_MANY, message, PolicyRule.MAX_QUEUED)
    if standing.remembered >= standing.most_remembered:
        message = "the node remembers as many commands as it can; try again later"
        return CommandRefusal(RefusalReason.TOO_MANY, message)
    return None


def _denied(rule: PolicyRule, message: str) -> CommandRefusal:
    return CommandRefusal(RefusalReason.POLICY, message, rule)
