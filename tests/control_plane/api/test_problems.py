"""What is wrong with a field is said in plain words, which say what it must be and repeat no value."""

from typing import Annotated, Any, Literal

import pytest
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from control_plane.api.command_bodies import NewCommand
from control_plane.api.nodes import NodeQuery
from control_plane.api.problems import told


class Everything(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    needed: int = 1
    uses: int = Field(default=1, ge=1, le=10)
    seconds: float = Field(default=1.0, gt=0, lt=9)
    labels: dict[str, str] = Field(default={}, max_length=1)
    nodes: list[str] = Field(default=["a"], min_length=1)
    name: str = Field(default="a", pattern="^[a-z]+$", max_length=5)
    argument: Annotated[str, AfterValidator(str.strip), Field(max_length=3)] = "a"
    platform: Literal["aws", "gcp"] = "aws"


def problems(model: type[BaseModel], document: dict[str, Any]) -> list[tuple[str, str]]:
    with pytest.raises(ValidationError) as caught:
        model.model_validate(document)
    return [(one["field"], one["problem"]) for one in map(told, caught.value.errors())]


@pytest.mark.parametrize(
    ("document", "field", "problem"),
    [
        ({"uses": 0}, "uses", "must be at least 1"),
        ({"uses": 11}, "uses", "must be at most 10"),
        ({"uses": "canary"}, "uses", "must be a valid integer"),
        ({"seconds": 0.0}, "seconds", "must be more than 0"),
        ({"seconds": 9.0}, "seconds", "must be less than 9"),
        ({"labels": {"a": "canary", "b": ""}}, "labels", "must have at most 1 item"),
        ({"labels": ["canary"]}, "labels", "must be a valid dictionary"),
        ({"nodes": []}, "nodes", "must have at least 1 item"),
        ({"name": "canary"}, "name", "must have at most 5 characters"),
        ({"name": "A"}, "name", "must match the pattern '^[a-z]+$'"),
        ({"argument": "canary"}, "argument", "must have at most 3 characters"),
        ({"platform": "canary"}, "platform", "must be 'aws' or 'gcp'"),
        ({"colour": "canary"}, "colour", "unknown key"),
    ],
)
def test_in_plain_words(document: dict[str, Any], field: str, problem: str):
    assert problems(Everything, document) == [(field, problem)]


def test_what_is_missing():
    assert problems(NewCommand, {"argv": ["true"]}) == [("target", "is missing")]


def test_a_choice_is_told_by_its_words():
    assert problems(NodeQuery, {"state": "canary"}) == [
        ("state", "must be one of online, degraded, offline, pending"),
    ]


@pytest.mark.parametrize("value", [1.5, None, [], "\x00", 2**54])
def test_a_value_of_several_forms_has_one_problem_and_its_own_name(value: object):
    document = {"target": {"node": "vm-1"}, "named": "restart", "parameters": {"a": value}}
    [(field, problem)] = problems(NewCommand, document)
    assert field == "parameters.a"
    assert problem == "must be a string of at most 4096 characters without NUL, a whole number, true or false"
