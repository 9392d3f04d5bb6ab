import os
from pathlib import Path

import pytest

from node_agent.policy import Narrowing
from node_agent.policy_file import MAX_POLICY_BYTES, PolicyError, PolicySource, read_policy_file

EXAMPLE = Path(__file__).parents[2] / "deploy" / "node-agent" / "policy.toml"
DOCUMENT = Path(__file__).parents[2] / "docs" / "policy.md"


def write(path, text, mode=0o644):
    path.write_text(text)
    path.chmod(mode)


def test_a_file_that_others_can_write_is_refused(tmp_path):
    path = tmp_path / "policy.toml"
    for mode in (0o664, 0o646, 0o666):
        write(path, "", mode)
        with pytest.raises(PolicyError, match="chmod go-w"):
            read_policy_file(path)
    write(path, "", 0o644)
    read_policy_file(path)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_a_file_of_somebody_else_is_refused(tmp_path):
    path = tmp_path / "policy.toml"
    write(path, "")
    os.chown(path, 65534, 65534)
    with pytest.raises(PolicyError, match="must belong to root"):
        read_policy_file(path)


@pytest.mark.parametrize("text", ["[", "x = 1", "\xff", "[ports.80]"])
def test_a_file_that_is_no_policy_is_refused_with_its_name(tmp_path, text):
    path = tmp_path / "policy.toml"
    path.write_bytes(text.encode("latin-1"))
    path.chmod(0o600)
    with pytest.raises(PolicyError, match=r"policy\.toml"):
        read_policy_file(path)


def test_a_file_that_is_too_long_is_refused_and_not_read_in_part(tmp_path):
    path = tmp_path / "policy.toml"
    write(path, "[commands]\nenabled = false\n".ljust(MAX_POLICY_BYTES, "#"))
    assert not read_policy_file(path).commands.enabled
    write(path, path.read_text() + "#")
    with pytest.raises(PolicyError, match="longer than"):
        read_policy_file(path)


def test_files_that_are_no_files(tmp_path):
    for path in (tmp_path / "missing", tmp_path):
        with pytest.raises(PolicyError):
            read_policy_file(path)


def test_a_reload_takes_what_is_right_and_keeps_what_was(policy_file, log, logged):
    source = PolicySource(policy_file, log)
    heard = []
    source.subscribe(heard.append)
    write(policy_file, "[ports.9100]", 0o600)
    assert source.reload()
    assert list(source.current.ports) == [9100]
    for text, mode in (("[ports.80]", 0o600), ("[ports.9200]", 0o666)):
        write(policy_file, text, mode)
        assert not source.reload()
        assert list(source.current.ports) == [9100]
    policy_file.unlink()
    assert not source.reload()
    assert [list(policy.ports) for policy in heard] == [[9100]]
    assert [entry["event"] for entry in logged.entries].count("policy.refused") == 3


def test_a_reload_stays_narrowed(policy_file, log):
    source = PolicySource(policy_file, log)
    source.narrow(Narrowing(ports=[4040]))
    write(policy_file, "[ports.9100]\n[ports.4040]", 0o600)
    source.reload()
    assert list(source.current.ports) == [4040]


def test_what_the_control_plane_says_is_in_force_at_once_and_until_it_says_something_else(policy_file, log):
    write(policy_file, "[ports.9100]\n[ports.4040]", 0o600)
    source = PolicySource(policy_file, log)
    heard = []
    source.subscribe(lambda policy: heard.append(sorted(policy.ports)))
    for narrowing in (Narrowing(ports=[4040]), Narrowing(ports=[4040]), Narrowing()):
        source.narrow(narrowing)
    assert heard == [[4040], [4040, 9100]]
    assert sorted(source.current.ports) == [4040, 9100]


def test_without_a_file_the_policy_is_the_least(log):
    source = PolicySource(None, log)
    assert source.reload()
    assert source.current.ports == {}


def test_the_example_is_a_policy(tmp_path):
    path = tmp_path / "policy.toml"
    write(path, EXAMPLE.read_text())
    read_policy_file(path)


def test_the_policy_in_the_documentation_is_a_policy(tmp_path):
    path = tmp_path / "policy.toml"
    examples = [part.split("```")[0] for part in DOCUMENT.read_text().split("```toml\n")[1:]]
    for example in examples:
        write(path, example)
        read_policy_file(path)
    write(path, examples[0])
    assert sorted(read_policy_file(path).ports) == [4040, 9100]
