"""Who may copy what, as whom and where: the rule that refuses, and the place that comes of a path."""

import os

import pytest

from node_agent.commands.errors import CommandRefusal
from node_agent.files.admission import Asked, Direction, PlaceRefused, place_of, refusal, user_of
from node_agent.files.worker.places import Place
from node_agent.policy import Narrowing, parse_policy

OPERATOR = "operator:one"
READ, WRITE = Direction.READ, Direction.WRITE


def rule(text: dict[str, object], direction: Direction = READ, user: str | None = None) -> str | None:
    refused = refusal(Asked(direction, "/x", user=user), OPERATOR, parse_policy(text))
    return None if refused is None else refused.policy_rule


def test_files_may_be_copied_where_shells_may_be_opened_unless_the_owner_says_otherwise() -> None:
    assert rule({}) is None
    assert rule({}, WRITE) is None
    assert rule({"commands": {"allow": "named"}}) == "files.read"
    assert rule({"commands": {"require_body_binding": True}}, WRITE) == "files.write"
    assert rule({"shell": {"enabled": False}}) == "files.read"
    assert rule({"shell": {"enabled": False}, "files": {"read": True}}) is None
    assert rule({"shell": {"enabled": False}, "files": {"read": True}}, WRITE) == "files.write"
    assert rule({"files": {"write": False}}, WRITE) == "files.write"
    assert rule({"files": {"write": False}}) is None


def test_the_caller_and_the_user_are_asked_for_like_those_of_shells_or_by_rules_of_their_own() -> None:
    assert rule({"shell": {"allowed_subjects": ["operator:two"]}}) == "files.allowed_subjects"
    assert rule({"files": {"allowed_subjects": [OPERATOR]}, "shell": {"allowed_subjects": []}}) is None
    assert rule({}, user="root" if os.geteuid() else "daemon") == "commands.allowed_users"
    assert rule({"commands": {"allowed_users": ["deploy"]}}, user="deploy") is None
    assert (
        rule({"commands": {"allowed_users": ["deploy"]}, "files": {"users": ["www"]}}, user="deploy") == "files.users"
    )
    assert user_of(Asked(READ, "x"), parse_policy({"files": {"users": ["www", "deploy"]}})) == "www"


@pytest.mark.parametrize(
    "taken",
    [
        Narrowing(commands_enabled=False),
        Narrowing(named_commands_only=True),
        Narrowing(require_body_binding=True),
    ],
)
def test_what_the_control_plane_takes_from_commands_it_takes_from_files(taken: Narrowing) -> None:
    policy = parse_policy({"files": {"read": True, "write": True}}).narrowed(taken)
    assert not policy.allows_reading_files
    assert not policy.allows_writing_files


@pytest.mark.parametrize(
    ("path", "below", "place"),
    [
        ("/a/b", (), Place("/a", ("b",), follow=True)),
        ("/a", (), Place("/", ("a",), follow=True)),
        ("/a/b/", (), Place("/a", ("b",), follow=True)),
        ("b", (), Place("/home/u", ("b",), follow=True)),
        ("", (), Place("/home", ("u",), follow=True)),
        ("/", (), Place("/", ())),
        ("/a/..", (), Place("/a/..", ())),
        ("/a/b", ("c", "d"), Place("/a/b", ("c", "d"))),
    ],
)
def test_where_a_path_leads(path: str, below: tuple[str, ...], place: Place) -> None:
    found = place_of(Asked(READ, path, below), "/home/u", parse_policy({}))
    assert found == place
    written = place_of(Asked(WRITE, path, below), "/home/u", parse_policy({}))
    assert written == place._replace(follow=False), "what is written replaces a link"


def test_with_directories_everything_beneath_them_is_found_without_a_link() -> None:
    policy = parse_policy({"files": {"read_directories": ["/srv/data", "/var/log"], "write_directories": []}})
    assert place_of(Asked(READ, "/srv/data/a/b"), "/", policy) == Place("/srv/data", ("a", "b"))
    assert place_of(Asked(READ, "/srv/data/a", ("b",)), "/", policy) == Place("/srv/data", ("a", "b"))
    assert place_of(Asked(READ, "log/x"), "/var", policy) == Place("/var/log", ("x",))
    assert place_of(Asked(READ, "/var/log/"), "/", policy) == Place("/var/log", ())
    for path in ("/srv/database", "/srv", "/etc/passwd"):
        refused = place_of(Asked(READ, path), "/", policy)
        assert isinstance(refused, CommandRefusal)
        assert refused.policy_rule == "files.read_directories"
    refused = place_of(Asked(WRITE, "/srv/data/a"), "/", policy)
    assert isinstance(refused, CommandRefusal)
    assert refused.policy_rule == "files.write_directories"


@pytest.mark.parametrize("path", ["/srv/data/../../etc/passwd", "/srv/data//x", "/srv/data/./x", "/srv/data/.."])
def test_with_directories_no_path_is_taken_that_has_to_be_worked_out(path: str) -> None:
    with pytest.raises(PlaceRefused):
        place_of(Asked(READ, path), "/", parse_policy({"files": {"read_directories": ["/srv/data"]}}))


@pytest.mark.parametrize("path", ["a\0b", "/" + "x" * 5000, "/d/.f.trunkline-part"])
def test_what_is_no_path_is_refused(path: str) -> None:
    with pytest.raises(PlaceRefused):
        place_of(Asked(READ, path), "/", parse_policy({}))


@pytest.mark.parametrize("directory", ["relative", "/a/../b", "/a/./b", "/a//b"])
def test_the_owners_directories_are_plain(directory: str) -> None:
    with pytest.raises(ValueError, match="read_directories"):
        parse_policy({"files": {"read_directories": [directory]}})
