"""What is on a node and what is here, and which ways there are."""

import click
import pytest

from trunkline.cli.copy_places import CopyPlace, check_ways, place_of


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("vm-1:/etc/x", CopyPlace("vm-1", "/etc/x")),
        ("vm-1:", CopyPlace("vm-1", "")),
        ("vm-1:a:b", CopyPlace("vm-1", "a:b")),
        ("./a:b", CopyPlace(None, "./a:b")),
        ("/a:b", CopyPlace(None, "/a:b")),
        (":a", CopyPlace(None, ":a")),
        ("a", CopyPlace(None, "a")),
        ("-", CopyPlace(None, "-")),
    ],
)
def test_a_place_is_on_a_node_if_a_colon_comes_before_any_slash(text: str, place: CopyPlace) -> None:
    assert place_of(text) == place


def test_only_our_own_dash_is_a_pipe() -> None:
    assert place_of("-").is_standard
    assert not place_of("./-").is_standard
    assert not place_of("vm-1:-").is_standard


@pytest.mark.parametrize(
    ("sources", "target", "recursive"),
    [
        (["a"], "b", False),
        (["vm-1:a"], "vm-2:b", False),
        (["a", "vm-1:b"], "vm-1:c", False),
        (["a", "vm-1:b"], "c", False),
        (["-", "a"], "vm-1:b", False),
        (["-"], "vm-1:b", True),
        (["vm-1:a", "vm-1:b"], "-", False),
    ],
)
def test_ways_that_are_none(sources: list[str], target: str, recursive: bool) -> None:
    with pytest.raises(click.UsageError):
        check_ways([place_of(source) for source in sources], place_of(target), recursive=recursive)


def test_ways_that_are_some() -> None:
    check_ways([place_of("vm-1:a"), place_of("vm-2:b")], place_of("c"), recursive=True)
    check_ways([place_of("a"), place_of("b")], place_of("vm-1:c"), recursive=True)
    check_ways([place_of("-")], place_of("vm-1:c"), recursive=False)
    with pytest.raises(click.BadParameter):
        place_of("")
