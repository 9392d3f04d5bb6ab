"""What commands are given: in the environment, in files, masked in their output, and taken back."""

import asyncio
import os
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from node_agent.commands.errors import CommandRefused, RefusalReason
from node_agent.commands.ledger import CommandBounds, CommandLedger
from node_agent.commands.records import CommandStore, OutputStream
from node_agent.commands.secret_references import SecretReferences
from node_agent.commands.submission import Submission
from node_agent.commands.submitter import Submitter
from node_agent.metrics import AgentMetrics
from node_agent.secrets.held import HeldSecret, HeldSecrets
from node_agent.secrets.memory_files import MemoryFiles, candidates_for
from node_agent.secrets.provision import SecretProvision
from node_agent.secrets.uses import UseLog
from tests.support.supervisors import end_commands
from trunkline.runtime.clock import SystemClock

CALLER = Submitter("operator/x")
SECRETS = {
    "db/password": HeldSecret(3, b"hunter2"),
    "db/pem": HeldSecret(4, b"-----BEGIN KEY-----\nMIIBsecret\n-----END KEY-----\n"),
    "db/nul": HeldSecret(5, b"\x00\x01\x02\x03"),
    "db/long": HeldSecret(6, b"x" * 128 * 1024),
}


class Stage:
    def __init__(self, tmp_path: Path, policy, log, meter) -> None:
        self.held, self.uses = HeldSecrets(), UseLog("me")
        self.held.replace(1, SECRETS)
        self.metrics = AgentMetrics(CollectorRegistry())
        self.place = candidates_for(None, tmp_path)[1]
        self.provision = SecretProvision(
            held=self.held,
            files=MemoryFiles([self.place], log),
            uses=self.uses,
            policy=policy,
            meter=self.metrics,
            clock=SystemClock(),
            wait_seconds=30.0,
        )
        self.tmp_path = tmp_path
        bounds = CommandBounds(grace_seconds=30.0)
        store = CommandStore(tmp_path / "commands")
        self.ledger = CommandLedger(store, policy, bounds, meter, SystemClock(), log, self.provision)

    async def submit(self, script: str, command_id: str = "c-1", **fields):
        return (await self.ledger.submit(command_id, Submission(argv=["sh", "-c", script], **fields), CALLER))[0]

    async def output(self, command, stream=OutputStream.STDOUT) -> bytes:
        with command.spool(stream, self.ledger.store).reader() as reader:
            return b"".join([chunk async for chunk in reader.chunks(0, follow=True)])


@pytest.fixture
async def stage(tmp_path, policy, log, meter):
    stage = Stage(tmp_path, policy, log, meter)
    await stage.provision.open()
    await stage.ledger.open()
    yield stage
    await end_commands(stage.ledger)
    await stage.provision.close()
    assert not stage.place.exists(), "nothing is left in memory either"


async def ended(until, command):
    await until(lambda: command.spooled and not command.unsaved and not command._saving.locked())
    return command.document()


async def test_a_command_gets_what_it_names_and_shows_none_of_it(stage, until):
    script = (
        "file=$TRUNKLINE_SECRETS_DIRECTORY/key.pem\n"
        'test ${#PW} = 7 && test "$(wc -l <$file)" = 3 && echo "it is $PW" && cat $file >&2 && stat -c %a $file'
    )
    secrets = {"environment": {"PW": "db/password"}, "files": {"key.pem": "db/pem"}}
    command = await stage.submit(script, secrets=secrets)
    document = await ended(until, command)
    assert (document["state"], document["secrets"]) == ("SUCCEEDED", secrets)
    assert await stage.output(command) == b"it is [redacted]\n600\n"
    assert await stage.output(command, OutputStream.STDERR) == b"[redacted]\n"
    everything = b"".join(path.read_bytes() for path in stage.tmp_path.rglob("*") if path.is_file())
    assert b"hunter2" not in everything
    assert b"MIIBsecret" not in everything
    assert list(stage.place.iterdir()) == []
    uses = [(use.secret, use.version, use.way, use.command_id) for use in stage.uses.report().uses]
    assert uses == [("db/password", 3, "environment", "c-1"), ("db/pem", 4, "file", "c-1")]


async def test_a_secret_that_is_cut_by_writes_is_masked(stage, until):
    command = await stage.submit(
        'printf hun; sleep 0.05; printf "ter2\\n"', secrets={"environment": {"P": "db/password"}}
    )
    await ended(until, command)
    assert await stage.output(command) == b"[redacted]\n"


@pytest.mark.parametrize("script", ["exit 3", "kill -9 $$", "sleep 60"])
async def test_files_go_with_the_command_however_it_ends(stage, until, script):
    command = await stage.submit(script, secrets={"files": {"pw": "db/password"}}, timeout_seconds=0.2)
    await ended(until, command)
    assert list(stage.place.iterdir()) == []


async def test_files_of_a_program_that_cannot_start_go_too(stage, until):
    secrets = SecretReferences(files={"pw": "db/password"})
    submission = Submission(argv=["/no/such/program"], secrets=secrets)
    command, _ = await stage.ledger.submit("c-1", submission, CALLER)
    assert (await ended(until, command))["state"] == "FAILED"
    assert list(stage.place.iterdir()) == []


@pytest.mark.parametrize(
    ("secrets", "said"),
    [
        ({"environment": {"X": "db/none"}}, "has not been given the secret db/none"),
        ({"environment": {"X": "db/nul"}}, "give it as a file"),
        ({"environment": {"X": "db/long"}}, "give it as a file"),
    ],
)
async def test_what_cannot_be_given_fails_the_command_and_says_why(stage, until, secrets, said):
    stage.provision._wait_seconds = 0.01
    document = await ended(until, await stage.submit("true", secrets=secrets))
    assert (document["state"], said in document["reason"]) == ("FAILED", True)


async def test_an_older_version_than_the_submitter_means_is_waited_for(stage, until):
    fields = {"secrets": {"environment": {"P": "db/password"}}, "secret_versions": {"db/password": 9}}
    command = await stage.submit('test "$P" = newer', **fields)
    await stage.held.asked.wait()
    stage.held.replace(2, SECRETS | {"db/password": HeldSecret(9, b"newer")})
    assert (await ended(until, command))["state"] == "SUCCEEDED"
    stage.provision._wait_seconds = 0.01
    late = await stage.submit("true", "c-2", **(fields | {"secret_versions": {"db/password": 10}}))
    assert "db/password" in (await ended(until, late))["reason"]


async def test_a_cancel_does_not_wait_for_secrets(stage, until):
    stage.provision._wait_seconds = 3600
    command = await stage.submit("true", secrets={"environment": {"P": "db/none"}})
    await stage.held.asked.wait()
    await stage.ledger.cancel("c-1", "operator/x")
    assert (await ended(until, command))["state"] == "CANCELLED"


async def test_an_agent_that_stops_does_not_wait_for_secrets(stage, until):
    stage.provision._wait_seconds = 3600
    command = await stage.submit("true", secrets={"environment": {"P": "db/none"}})
    await stage.held.asked.wait()
    async with asyncio.timeout(30):
        await stage.ledger.stop()
    assert command.document()["state"] == "QUEUED", "the next agent asks for them again"


@pytest.mark.parametrize(
    ("rules", "said"), [("enabled = false", "does not allow secrets"), ("allowed_scopes = ['web']", "the scope 'db'")]
)
async def test_the_owner_refuses_before_anything_is_recorded(stage, policy, policy_file, rules, said):
    policy_file.write_text(policy_file.read_text() + f"[secrets]\n{rules}\n")
    policy.reload()
    with pytest.raises(CommandRefused, match=said) as refused:
        await stage.submit("true", secrets={"environment": {"P": "db/password"}})
    assert refused.value.reason is RefusalReason.POLICY
    assert list(stage.ledger) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can run commands as others")
async def test_another_user_can_read_its_own_file(stage, until, policy, policy_file):
    policy_file.write_text("[commands]\nallowed_users = ['nobody']\n")
    policy.reload()
    script = 'test "$(cat $TRUNKLINE_SECRETS_DIRECTORY/pw)" = hunter2 && ! ls $TRUNKLINE_SECRETS_DIRECTORY 2>/dev/null'
    command = await stage.submit(script, secrets={"files": {"pw": "db/password"}}, user="nobody")
    assert (await ended(until, command))["state"] == "SUCCEEDED"


async def test_a_node_without_a_place_in_memory_gives_no_files(stage, until):
    stage.provision._files._base = None
    document = await ended(until, await stage.submit("true", secrets={"files": {"pw": "db/password"}}))
    assert "no directory in memory" in document["reason"]
    stage.place.rmdir()
