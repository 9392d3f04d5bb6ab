import asyncio
import json
from dataclasses import replace

import pytest

from certs.tokens import TokenKind
from certs.trust import TrustVerdict
from node_agent.shells.request import ShellRequest
from tests.support.shell_callers import ShellCaller
from trunkline.channel.shell_flow import ShellEnding
from trunkline.channel.shell_frames import ShellEndingKind, ShellFrame, encode_frame


@pytest.fixture
def token(kit):
    return kit.call_token("shell:open", "health:read")


@pytest.fixture
def caller(agent, token):
    return ShellCaller(agent, token)


def exited(status: int) -> ShellEnding:
    return ShellEnding(ShellEndingKind.EXITED, status)


async def test_a_shell_is_opened_typed_into_and_ends_with_its_status(caller, agent):
    answer = await caller.open(argv=["sh"], rows=30, columns=90)
    assert answer.status == 201
    assert json.loads(answer.body)["shell_id"] == "one"
    assert await caller.attach() == 101
    caller.type(b"stty size; echo $((6*7)) $TERM\n")
    await caller.until(b"42 xterm-256color")
    assert b"30 90" in caller.shown
    caller.flow.resize(50, 200)
    caller.type(b"stty size; exit 9\n")
    assert await caller.end() == exited(9)
    assert b"50 200" in caller.shown
    assert agent.shells.running == 0
    assert await caller.attach() == 404, "what is concluded is forgotten"


async def test_without_a_terminal_the_outputs_are_apart_and_the_input_ends(caller):
    await caller.open(argv=["sh", "-c", "cat; echo oh >&2; kill -9 $$"], terminal=False)
    await caller.attach()
    caller.type(bytes(range(256)))
    caller.flow.end_input()
    assert await caller.end() == ShellEnding(ShellEndingKind.KILLED, 9)
    assert caller.shown == bytes(range(256))
    assert caller.complained == b"oh\n"


async def test_control_c_reaches_the_foreground(caller):
    await caller.open(argv=["sh", "-c", "trap 'echo caught; exit 5' INT; echo ready; while :; do sleep 0.05; done"])
    await caller.attach()
    await caller.until(b"ready")
    caller.type(b"\x03")
    assert await caller.end() == exited(5)
    assert b"caught" in caller.shown


async def test_a_signal_by_name_without_a_terminal(caller):
    await caller.open(argv=["sh", "-c", "trap 'exit 6' USR1; echo ready; while :; do sleep 0.05; done"], terminal=False)
    await caller.attach()
    await caller.until(b"ready")
    caller.flow.signal("USR1")
    caller.send()
    assert await caller.end() == exited(6)


async def test_nothing_reaches_anybody_through_a_terminal_that_was_left(caller, agent, kit, until):
    left = "trap '' HUP; exec </dev/null >/dev/null 2>&1; while :; do sleep 0.05; done"
    await caller.open(argv=["sh", "-c", left])
    await caller.attach()
    await caller.next()
    session = agent.shells._sessions["one"]
    await until(lambda: all(output.ended for output in session._outputs))
    # The number of the terminal's descriptor is free now, and is given to the next that is opened.
    other = ShellCaller(agent, kit.call_token("shell:open", subject="operator:other"), shell_id="two")
    await other.open(argv=["sh", "-c", "read line; stty size; echo got $line"])
    await other.attach()
    await other.next()
    caller.flow.resize(1, 2)
    caller.type(b"rm -rf /\n")
    caller.flow.end_input()
    caller.flow.signal("TERM")
    caller.send()
    await until(lambda: session._flow.received_bytes == 9)
    other.type(b"mine\n")
    assert await other.end() == exited(0)
    assert b"24 80\r\ngot mine" in other.shown
    assert (await caller.end()).kind is ShellEndingKind.KILLED


async def test_nothing_reaches_anybody_through_a_pipe_that_was_closed(caller, agent, kit, until):
    await caller.open(argv=["sh", "-c", "cat; while :; do sleep 0.05; done"], terminal=False)
    await caller.attach()
    await caller.next()
    caller.flow.end_input()
    caller.send()
    session = agent.shells._sessions["one"]
    await until(lambda: session._input.ended)
    token = kit.call_token("shell:open", subject="operator:other")
    others = [ShellCaller(agent, token, shell_id=f"other-{number}") for number in range(2)]
    for other in others:  # the pipe's number is that of the second's terminal
        await other.open(argv=["sh", "-c", "read line; stty size"])
    caller.flow.resize(1, 2)
    caller.flow.signal("TERM")
    caller.send()
    assert await caller.end() == ShellEnding(ShellEndingKind.KILLED, 15)
    for other in others:
        await other.attach()
        other.type(b"\n")
        assert await other.end() == exited(0)
        assert b"24 80" in other.shown


async def test_a_cut_stream_loses_and_doubles_nothing(caller):
    lines = 20_000
    await caller.open(argv=["sh", "-c", f"stty -echo; echo 0; read word; seq {lines}; read word; echo got $word"])
    await caller.attach()
    await caller.until(b"0\r\n")
    caller.type(b"go\n")
    for _ in range(8):
        await caller.next()
        caller.cut()
        caller.type(b"")
        assert await caller.attach() == 101
    await caller.until(b"%d\r\n" % lines)
    caller.cut()
    caller.type(b"this\n")
    await caller.attach()
    assert await caller.end() == exited(0)
    assert caller.shown.replace(b"\r", b"") == b"".join(b"%d\n" % n for n in range(lines + 1)) + b"got this\n"


async def test_a_program_stops_when_nobody_takes_its_output_and_goes_on_when_somebody_does(caller):
    size = 3_000_000
    await caller.open(argv=["sh", "-c", f"head -c {size} /dev/zero"], terminal=False)
    caller.takes = False
    await caller.attach()
    while len(caller.shown) < 256 * 1024:
        await caller.next()
    caller.takes = True
    caller.flow.taken(len(caller.shown))
    caller.send()
    assert await caller.end() == exited(0)
    assert len(caller.shown) == size


async def test_output_and_status_wait_for_a_caller_who_is_away(caller, until, agent):
    await caller.open(argv=["sh", "-c", "echo all of it; exit 4"])
    await until(lambda: agent.shells.running == 0)
    await caller.attach()
    assert await caller.end() == exited(4)
    assert caller.shown == b"all of it\r\n"


async def test_a_caller_who_stays_away_is_hung_up_on(caller, agent, until):
    await caller.open(argv=["sh", "-c", "trap '' HUP; while :; do sleep 1; done"])
    await caller.attach()
    session = agent.shells._sessions["one"]
    session._bounds = replace(session._bounds, away_seconds=1.0)
    caller.cut()
    await until(lambda: session._stream is None)
    session._bounds = replace(session._bounds, away_seconds=30.0)  # to come and hear of the end
    await until(lambda: agent.shells.running == 0)
    await caller.attach()
    ending = await caller.end()
    assert (ending.kind, ending.reason) == (ShellEndingKind.ENDED, "the caller was away for too long")


async def test_whoever_never_comes_back_is_forgotten(caller, agent, until):
    agent.shells.away_seconds = 0.2
    await caller.open(argv=["cat", "/dev/zero"])
    await until(lambda: agent.shells.running == 0 and not agent.shells._sessions)
    assert len(agent.watch) == 0
    assert await caller.attach() == 404


async def test_leaving_ends_it_at_once(caller):
    await caller.open(argv=["sh"])
    await caller.attach()
    await caller.next()
    caller.flow.hang_up()
    caller.send()
    assert (await caller.end()).reason == "the caller left"


async def test_a_shell_belongs_to_whoever_opened_it(caller, agent, kit):
    await caller.open(argv=["sh"])
    other = ShellCaller(agent, kit.call_token("shell:open", subject="operator:other"))
    assert await other.attach() == 404
    assert (await other.open(argv=["sh"])).status == 404
    assert await caller.attach() == 101


async def test_an_opening_sent_twice_opens_once(caller, agent):
    answers = await asyncio.gather(*(caller.open(argv=["sh"]) for _ in range(5)))
    assert sorted(answer.status for answer in answers) == [200, 200, 200, 200, 201]
    assert agent.shells.running == 1
    assert (await caller.open(argv=["bash"])).status == 409


async def test_a_newer_stream_takes_the_place_of_an_older(caller, agent, token):
    await caller.open(argv=["cat"])
    await caller.attach()
    await caller.next()
    newer = ShellCaller(agent, token)
    assert await newer.attach() == 101
    with pytest.raises(ConnectionResetError):
        await caller.reader.read()
    newer.type(b"still here\n")
    await newer.until(b"still here")


@pytest.mark.parametrize("raw", [b"\0\0\0\0", encode_frame(ShellFrame.EXIT, b"\0\0"), b"GET / HTTP/1.1\r\n\r\n"])
async def test_a_caller_who_breaks_the_protocol_loses_the_stream_and_may_come_back(caller, raw):
    await caller.open(argv=["cat"])
    await caller.attach()
    caller.writer.write(raw)
    with pytest.raises(ConnectionResetError):
        await caller.reader.read()
    assert await caller.attach() == 101


async def test_without_the_scope_there_is_neither_opening_nor_attaching(caller, agent, kit):
    await caller.open(argv=["sh"])
    caller.token = kit.call_token("command:submit", "command:read")
    assert await caller.attach() == 403
    assert (await caller.open(argv=["sh"])).status == 403


async def test_a_revoked_token_ends_the_shell(caller, agent, kit, until):
    await caller.open(argv=["sh"])
    await caller.attach()
    await caller.next()
    claims = kit.verifier().verify(caller.token, TokenKind.CALL, kit.now)
    agent.revoked.add(claims.token_id)
    cut = agent.watch.cut(lambda held: TrustVerdict(False, "token", held.token_id))
    assert [one.is_stream for one in cut] == [True]
    with pytest.raises(ConnectionResetError):
        await caller.reader.read()
    await until(lambda: agent.shells.running == 0)
    assert await caller.attach() == 401


async def test_a_token_that_is_revoked_while_the_shell_is_started_ends_it_too(caller, agent, kit, until):
    claims = kit.verifier().verify(caller.token, TokenKind.CALL, kit.now)
    request = ShellRequest(argv=["sleep", "60"], terminal=False)
    opening = asyncio.create_task(agent.shells.open("one", request, claims))
    while not len(agent.watch):  # noqa: ASYNC110 - it is there in a turn or two
        await asyncio.sleep(0)
    assert agent.shells.running == 0, "it is not there yet"
    agent.watch.cut(lambda held: TrustVerdict(False, "token", held.token_id))
    session, _ = await opening
    async with asyncio.timeout(30):
        await session.gone
    await until(lambda: agent.shells.running == 0)
    _, ended = [item["shell"] for item in agent.reports.next_batch().items if item["type"] == "shell"]
    assert ended["cause"] == "revoked"


async def test_without_the_upgrade_the_answer_says_what_is_needed(caller, agent, token):
    await caller.open(argv=["sh"])
    answer = await agent.call("GET", "/v1/shells/one", token=token)
    assert (answer.status, answer.fields["upgrade"]) == (426, "trunkline-shell")


@pytest.mark.parametrize(
    "body",
    [b"[]", b"{", b'{"argv": [""]}', b'{"argv": ["a\\u0000"]}', b'{"term": "x y"}', b'{"rows": 0}', b'{"shell": 1}',
     b'{"user": "../x"}'],
)  # fmt: skip
async def test_a_wrong_body_is_refused(agent, token, body):
    assert (await agent.call("PUT", "/v1/shells/one", token=token, body=body)).status == 400


async def test_what_cannot_be_started_is_said(caller):
    answer = await caller.open(argv=["/no/such"])
    assert (answer.status, json.loads(answer.body)["error_code"]) == (422, "CANNOT_START")
    assert (await caller.open(user="no-such-user")).status == 403


@pytest.mark.parametrize(
    ("rules", "allowed"),
    [
        ("", True),
        ("[shell]\nenabled = false", False),
        ("[commands]\nallow = 'named'", False),
        ("[commands]\nallow = 'named'\n[shell]\nenabled = true", True),
        ("[commands]\nblock_metadata = 'require'", False),
        ("[commands]\nenabled = false", False),
        ("[commands]\nenabled = false\n[shell]\nenabled = true", True),
        ("[commands]\nrequire_body_binding = true", False),
        ("[commands]\nrequire_body_binding = true\n[shell]\nenabled = true", True),
        ("[commands]\nallowed_subjects = ['operator:else']", False),
        ("[shell]\nallowed_subjects = ['operator:else']", False),
        ("[commands]\nallowed_subjects = ['operator:else']\n[shell]\nallowed_subjects = ['operator:test']", True),
    ],
)
async def test_the_owner_decides_whether_there_are_shells(caller, policy, policy_file, rules, allowed):
    policy_file.write_text(rules)
    assert policy.reload()
    assert (await caller.open(argv=["true"])).status == (201 if allowed else 403)


async def test_there_are_only_so_many_at_once(agent, token, policy, policy_file):
    policy_file.write_text("[shell]\nmax_concurrent = 2")
    assert policy.reload()
    callers = [ShellCaller(agent, token, shell_id=f"shell-{number}") for number in range(3)]
    answers = [await caller.open(argv=["cat"]) for caller in callers]
    assert [answer.status for answer in answers] == [201, 201, 429]


async def test_idle_and_long_shells_are_ended_with_the_reason(agent, token, policy, policy_file):
    policy_file.write_text("[shell]\nidle_seconds = 1")
    assert policy.reload()
    idle = ShellCaller(agent, token, shell_id="idle")
    await idle.open(argv=["cat"])
    await idle.attach()
    policy_file.write_text("[shell]\nmax_duration_seconds = 1")
    assert policy.reload()
    long = ShellCaller(agent, token, shell_id="long")
    await long.open(argv=["sh", "-c", "while :; do echo; sleep 0.1; done"])
    await long.attach()
    assert (await idle.end()).reason.startswith("nothing was typed")
    assert (await long.end()).reason.startswith("it was open")


async def test_openings_and_endings_are_reported_and_counted(caller, agent):
    await caller.open(argv=["sh", "-c", "read line; echo $line"], terminal=False)
    await caller.attach()
    caller.type(b"12345\n")
    await caller.end()
    opened, ended = [item for item in agent.reports.next_batch().items if item["type"] == "shell"]
    assert (opened["shell"]["event"], opened["subject"]) == ("opened", "operator:test")
    wanted = {"event": "ended", "cause": "exited", "input_bytes": 6, "output_bytes": 6}
    assert wanted.items() <= ended["shell"].items()
    sample = agent.metrics.registry.get_sample_value
    assert sample("trunkline_node_agent_shells_opened_total") == 1
    assert sample("trunkline_node_agent_shells_ended_total", {"cause": "exited"}) == 1
