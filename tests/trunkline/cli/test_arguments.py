import click
import pytest

from trunkline.cli.arguments import seconds_of


@pytest.mark.parametrize(
    ("text", "seconds"), [("90s", 90), ("30m", 1800), ("2h", 7200), ("7d", 604_800), ("1h30m", 5400), ("1d1s", 86_401)]
)
def test_durations(text: str, seconds: int) -> None:
    assert seconds_of(text, "--for") == seconds


@pytest.mark.parametrize("text", ["", "1", "m", "1h 30m", "1.5h", "٣h", "1h30", "0m"])
def test_what_is_no_duration(text: str) -> None:
    with pytest.raises(click.BadParameter, match="not a duration"):
        seconds_of(text, "--for")
