"""Admission: whether a command is taken, and as what; decided from values alone, with the rule that refuses it.

The questions are asked in a fixed order, and the first that is not answered well refuses. Nothing here has an effect.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

from node_agent.commands import named_admission
from node_agent.commands.accounts import default_user
from node_agent.commands.errors import CommandRefusal, PolicyRule, RefusalReason
from node_agent.commands.records import CommandRecord
from node_agent.commands.submission import Submission
from node_agent.commands.submitter import Submitter
from node_agent.policy import CommandRules
from node_agent.rules.environment import first_matched, first_unmatched
from node_agent.rules.parameters import RealPaths
from node_agent.rules.schedule import Window, is_open

MOST_WINDOWS_SHOWN = 3


@dataclass(frozen=True, slots=True)
class Asked:
    """What is asked for, under which id, and by whom; `real_paths` is where paths in its parameters lead."""

    command_id: str
    submission: Submission
    submitter: Submitter
    real_paths: RealPaths = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Standing:
    """How the node stands at the moment of a submit, `now` in seconds since the epoch.

    `unfinished` commands run or wait; `remembered` are all that have not been forgotten, of `most_remembered`.
    `token_command` is the command that the submit's token has been used for, `secrets` what refuses its secrets,
    `kept_from_metadata` the users who certainly cannot reach the cloud's metadata service.
    """

    now: float
    stopping: bool
    unfinished: int
    remembered: int
    most_remembered: int
    token_command: str | None = None
    secrets: CommandRefusal | None = None
    kept_from_metadata: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class CommandGrant:
    """What a command that is taken runs: arguments, as whom (None: the agent's own user), where, and how long."""

    argv: list[str]
    user: str | None
    working_directory: str | None
    timeout_seconds: float


def admit(asked: Asked, rules: CommandRules, standing: Standing) -> CommandGrant | CommandRefusal:
    """Decide about a submit of a command that is not known yet."""
    refused = next((one for one in _refusals(asked, rules, standing) if one is not None), None)
    if refused is not None:
        return refused
    grant = _grant(asked, rules)
    return refusal_of_metadata(rules, grant.user, standing.kept_from_metadata) or grant


def refusal_of_metadata(rules: CommandRules, user: str | None, kept: frozenset[str]) -> CommandRefusal | None:
    """Return why nothing may run as this user (None: the agent's own): it could reach the metadata service."""
    if rules.block_metadata != "require" or user in kept:
        return None
    message = "the node cannot keep commands as this user from the cloud's metadata service, which its owner requires"
    return _denied(PolicyRule.BLOCK_METADATA, message)


def refusal_of_token(command_id: str, token_command: str | None) -> CommandRefusal | None:
    """Return why the token cannot be used for this command: it has been, for another."""
    if token_command in (None, command_id):
        return None
    return CommandRefusal(RefusalReason.REPLAYED_TOKEN, "the token has been used for another command")


def refusal_of_caller(rules: CommandRules, subject: str, named: str | None) -> CommandRefusal | None:
    """Return why the caller may do nothing with such commands: neither submit nor cancel."""
    if not rules.enabled:
        return _denied(PolicyRule.COMMANDS_ENABLED, "the node's owner does not allow commands")
    if not rules.allows_subject(subject):
        return _denied(PolicyRule.ALLOWED_SUBJECTS, "the node's owner does not allow this caller to run commands")
    return None if named is None else named_admission.refusal_of_caller(rules, named, subject)


def refusal_of_stdin(record: CommandRecord, subject: str, rules: CommandRules, *, bound: bool) -> CommandRefusal | None:
    """Return why the caller brings no standard input for this command; `bound`: its token is good for one part only."""
    if record.submitted_by != subject:
        return CommandRefusal(RefusalReason.UNKNOWN, "only who submitted a command brings its standard input")
    if not record.stdin_streamed:
        return CommandRefusal(RefusalReason.NOT_STREAMED, "the command was not submitted with stdin_stream")
    if rules.require_body_binding and not bound:
        message = "the node's owner requires a token that is bound to this part of the input (body_sha256, command_id)"
        return _denied(PolicyRule.BODY_BINDING, message)
    return None


def _refusals(asked: Asked, rules: CommandRules, standing: Standing) -> Iterator[CommandRefusal | None]:
    submission, submitter = asked.submission, asked.submitter
    if standing.stopping:
        yield CommandRefusal(RefusalReason.STOPPING, "the agent is stopping; try again once it is back")
    yield refusal_of_token(asked.command_id, standing.token_command)
    yield refusal_of_caller(rules, submitter.subject, submission.named)
    yield _binding(submitter, rules)
    if not submitter.initialises:
        yield from _of_others(asked, rules, standing.now)
    yield standing.secrets
    yield _room(rules, standing)


def _of_others(asked: Asked, rules: CommandRules, now: float) -> Iterator[CommandRefusal | None]:
    """Yield what refuses commands that are submitted; the owner's `[init]` says what holds for init scripts instead."""
    submission = asked.submission
    if not is_open(rules.schedule, now):
        yield _denied(PolicyRule.SCHEDULE, f"the node's owner allows commands only {_windows(rules.schedule or ())}")
    if submission.named is not None:
        yield from named_admission.refusals(submission, rules, asked.real_paths, now)
    else:
        yield _free_argv(rules)
        yield _user(submission, rules)
    yield _environment(submission, rules)


def _grant(asked: Asked, rules: CommandRules) -> CommandGrant:
    submission, timeout_seconds = (
        asked.submission,
        rules.timeout_seconds(asked.submission.timeout_seconds, asked.submission.named),
    )
    default = default_user(rules.run_as)
    if submission.named is None:
        user, directory = submission.user or default, submission.working_directory
        return CommandGrant(list(submission.argv or ()), user, directory, timeout_seconds)
    named = rules.named[submission.named]
    return CommandGrant(
        argv=named.arguments(submission.parameters, asked.real_paths),
        user=named.user or default,
        working_directory=named.working_directory,
        timeout_seconds=timeout_seconds,
    )


def _binding(submitter: Submitter, rules: CommandRules) -> CommandRefusal | None:
    if submitter.bound or not rules.require_body_binding:
        return None
    message = "the node's owner requires a token that is bound to body and command (body_sha256, command_id)"
    return _denied(PolicyRule.BODY_BINDING, message)


def _free_argv(rules: CommandRules) -> CommandRefusal | None:
    if rules.allow == "any":
        return None
    return _denied(PolicyRule.ALLOW, "the node's owner allows named commands only")


def _user(submission: Submission, rules: CommandRules) -> CommandRefusal | None:
    if submission.user is None or submission.user in (default_user(rules.run_as), *rules.allowed_users):
        return None
    message = f"the node's owner does not allow commands to run as {submission.user!r}"
    return _denied(PolicyRule.ALLOWED_USERS, message)


def _environment(submission: Submission, rules: CommandRules) -> CommandRefusal | None:
    names = submission.variables()
    allowed, forbidden = rules.environment.allowed, rules.environment.forbidden
    if allowed is not None and (name := first_unmatched(names, allowed)) is not None:
        return _variable(PolicyRule.ENVIRONMENT_ALLOWED, name)
    if (name := first_matched(names, forbidden)) is not None:
        return _variable(PolicyRule.ENVIRONMENT_FORBIDDEN, name)
    return None


def _variable(rule: PolicyRule, name: str) -> CommandRefusal:
    return _denied(rule, f"the node's owner does not allow commands to be given the variable {name[:64]!r}")


def _room(rules: CommandRules, standing: Standing) -> CommandRefusal | None:
    if standing.unfinished >= rules.max_concurrent + rules.max_queued:
        message = "the queue of commands is full; try again later"
        return CommandRefusal(RefusalReason.TOO_MANY, message, PolicyRule.MAX_QUEUED)
    if standing.remembered >= standing.most_remembered:
        message = "the node remembers as many commands as it can; try again later"
        return CommandRefusal(RefusalReason.TOO_MANY, message)
    return None


def _windows(schedule: tuple[Window, ...]) -> str:
    return " or ".join(map(str, schedule[:MOST_WINDOWS_SHOWN]))


def _denied(rule: PolicyRule, message: str) -> CommandRefusal:
    return CommandRefusal(RefusalReason.POLICY, message, rule)
