import threading

import pytest

from node_agent.commands.errors import CommandRefused
from node_agent.commands.parameter_paths import ParameterPaths
from node_agent.commands.submission import Submission


@pytest.fixture
def paths(tmp_path, policy_file, policy):
    policy_file.write_text(
        f"[commands.named.show]\nargv = ['cat', '{{file}}']\n"
        f"[commands.named.show.parameters.file]\ntype = 'path'\nunder = ['{tmp_path}/logs']\n"
    )
    assert policy.reload()
    (tmp_path / "logs").mkdir()
    paths = ParameterPaths(policy)
    yield paths
    paths.close()


def show(file):
    return Submission(named="show", parameters={"file": str(file)})


async def test_links_are_followed_wherever_they_lead(paths, tmp_path):
    (tmp_path / "logs" / "link").symlink_to("/etc/hostname")
    followed = await paths.followed(show(tmp_path / "logs" / "link"))
    assert followed == {f"{tmp_path}/logs/link": "/etc/hostname", f"{tmp_path}/logs": f"{tmp_path}/logs"}


async def test_where_no_thread_can_be_made_paths_are_followed_all_the_same(paths, tmp_path, monkeypatch):
    def full(thread):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", full)
    assert await paths.followed(show(tmp_path / "logs" / "one"))


async def test_what_the_rules_refuse_by_its_text_is_not_touched(paths, tmp_path):
    assert await paths.followed(show("/etc/passwd")) == {}
    assert await paths.followed(show(f"{tmp_path}/logs/../x")) == {}
    assert await paths.followed(Submission(argv=["true"])) == {}
    assert await paths.followed(Submission(named="other")) == {}


async def test_a_file_system_that_does_not_answer_is_given_up(paths, policy, tmp_path):
    released = threading.Event()
    hanging = ParameterPaths(policy, follow=lambda path: str(released.wait()), timeout_seconds=0.01)
    with pytest.raises(CommandRefused, match="does not answer"):
        await hanging.followed(show(tmp_path / "logs" / "x"))
    released.set()
    hanging.close()
