"""Admission of named commands: by their owner's rules, which leave a submitter the parameters and little else."""

from collections.abc import Iterator

from node_agent.commands.accounts import default_user
from node_agent.commands.errors import CommandRefusal, PolicyRule, RefusalReason
from node_agent.commands.submission import Submission
from node_agent.policy import CommandRules
from node_agent.rules.environment import first_not_granted
from node_agent.rules.named import NamedCommand, WrongParameter
from node_agent.rules.parameters import RealPaths
from node_agent.rules.schedule import is_open


def refusal_of_caller(rules: CommandRules, name: str, subject: str) -> CommandRefusal | None:
    """Return why the caller may neither submit nor cancel the named command."""
    named = rules.named.get(name)
    if named is None or named.allowed_subjects is None or subject in named.allowed_subjects:
        return None
    return _denied(PolicyRule.NAMED_SUBJECTS, name, "the node's owner does not allow this caller to run this command")


def refusals(
    submission: Submission, rules: CommandRules, real: RealPaths, now: float
) -> Iterator[CommandRefusal | None]:
    """Yield what refuses the submission of a named command."""
    name = submission.named or ""
    named = rules.named.get(name)
    if named is None:
        message = f"the node's owner has named no command {name!r}"
        yield CommandRefusal(RefusalReason.POLICY, message, PolicyRule.NAMED)
        return
    if not is_open(named.schedule, now):
        windows = " or ".join(map(str, named.schedule or ()))
        yield _denied(PolicyRule.NAMED_SCHEDULE, name, f"the node's owner allows this command only {windows[:200]}")
    yield _parameters(name, named, submission, real)
    yield _user(name, named.user or default_user(rules.run_as), submission)
    yield _directory(name, named, submission)
    yield _environment(name, named, submission)
    if (submission.stdin is not None or submission.stdin_stream) and not named.stdin:
        yield _denied(PolicyRule.NAMED_STDIN, name, "this command takes no standard input")


def _parameters(name: str, named: NamedCommand, submission: Submission, real: RealPaths) -> CommandRefusal | None:
    try:
        named.arguments(submission.parameters, real)
    except WrongParameter as error:
        rule = PolicyRule.NAMED_PARAMETERS
        key = f"{rule.value.replace('*', name)}.{error.name}"
        return CommandRefusal(RefusalReason.POLICY, str(error), rule, key)
    return None


def _user(name: str, user: str | None, submission: Submission) -> CommandRefusal | None:
    if submission.user in (None, user):
        return None
    runs_as = "the agent's own user" if user is None else repr(user)
    return _denied(PolicyRule.NAMED_USER, name, f"this command runs as {runs_as}, whoever asks for it")


def _directory(name: str, named: NamedCommand, submission: Submission) -> CommandRefusal | None:
    if submission.working_directory in (None, named.working_directory):
        return None
    return _denied(PolicyRule.NAMED_DIRECTORY, name, "this command's working directory is its owner's to say")


def _environment(name: str, named: NamedCommand, submission: Submission) -> CommandRefusal | None:
    variable = first_not_granted(submission.variables(), named.environment)
    if variable is None:
        return None
    return _denied(PolicyRule.NAMED_ENVIRONMENT, name, f"this command is not given the variable {variable[:64]!r}")


def _denied(rule: PolicyRule, name: str, message: str) -> CommandRefusal:
    return CommandRefusal(RefusalReason.POLICY, message, rule, rule.value.replace("*", name))
