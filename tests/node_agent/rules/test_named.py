import pytest
from pydantic import ValidationError

from node_agent.rules.named import NamedCommand, WrongParameter


def named(*argv, **parameters):
    return NamedCommand.model_validate({"argv": list(argv), "parameters": parameters})


TEXT = {"type": "string", "pattern": "[a-z]+"}
TAIL = named(
    "tail", "-n", "{lines}", "{follow}", "--", "{file}",
    lines={"type": "integer", "default": 10}, follow={"type": "boolean", "flag": "--follow", "default": False},
    file={"type": "path", "under": ["/var/log"]},
)  # fmt: skip
REAL = {"/var/log": "/var/log", "/var/log/app": "/var/log/app"}


def test_defaults_stand_in_for_what_is_not_given():
    assert TAIL.arguments({"file": "/var/log/app"}, REAL) == ["tail", "-n", "10", "--", "/var/log/app"]
    given = {"file": "/var/log/app", "lines": "5", "follow": True}
    assert TAIL.arguments(given, REAL) == ["tail", "-n", "5", "--follow", "--", "/var/log/app"]


def test_paths_are_named_that_must_be_followed_first():
    assert set(TAIL.paths_in({"file": "/var/log/app"})) == {"/var/log", "/var/log/app"}
    for not_followed in ("/etc/passwd", "/var/log/../x", 5):
        assert set(TAIL.paths_in({"file": not_followed})) == set()


@pytest.mark.parametrize(
    ("given", "about"),
    [
        ({}, "file"),
        ({"file": "/etc/x"}, "file"),
        ({"file": "/var/log/app", "x": 1}, "x"),
        ({"file": "", "lines": -1}, "lines"),
    ],
)
def test_a_wrong_parameter_is_named(given, about):
    with pytest.raises(WrongParameter) as wrong:
        TAIL.arguments(given, REAL)
    assert wrong.value.name == about


@pytest.mark.parametrize(
    "make",
    [
        lambda: named("tool", "{text}"),
        lambda: named("tool", text=TEXT),
        lambda: named("tool", "--force={on}", on={"type": "boolean", "flag": "--force"}),
        lambda: named("tool", "{Text}", Text=TEXT),
        lambda: named("sh", "-c", "echo {text}", text=TEXT),
        named,
        lambda: NamedCommand.model_validate({"argv": ["x"], "user": "../x"}),
        lambda: NamedCommand.model_validate({"argv": ["x"], "working_directory": "tmp"}),
        lambda: NamedCommand.model_validate({"argv": ["x"], "environment": ["A B"]}),
        lambda: NamedCommand.model_validate({"argv": ["x"], "schedule": []}),
        lambda: NamedCommand.model_validate({"argv": ["x"], "shell": True}),
    ],
)
def test_what_an_owner_cannot_mean(make):
    with pytest.raises(ValidationError):
        make()
