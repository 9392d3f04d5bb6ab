"""A key's id that begins with a dash is no option."""

import click
import pytest

from trunkline.cli.key_ids import TakesKeyId

KEY = "-o" + "a" * 41


@click.command(cls=TakesKeyId)
@click.argument("key_id")
@click.option("--reason", required=True)
@click.option("-o", "output")
def command(key_id: str, reason: str, output: str | None) -> tuple[str, str, str | None]:
    return key_id, reason, output


@pytest.mark.parametrize(
    "arguments",
    [
        [KEY, "--reason", "it leaked"],
        ["--reason", "it leaked", KEY],
        ["--reason", "it leaked", "--", KEY],
    ],
)
def test_it_is_taken_wherever_it_stands(arguments: list[str]) -> None:
    assert command.main(arguments, standalone_mode=False) == (KEY, "it leaked", None)


def test_options_are_still_options() -> None:
    given = ["-o", "json", "x" * 43, "--reason", "it leaked"]
    assert command.main(given, standalone_mode=False) == ("x" * 43, "it leaked", "json")
    with pytest.raises(click.NoSuchOption):
        command.main(["-x", "--reason", "r", KEY], standalone_mode=False)
