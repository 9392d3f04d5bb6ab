import click
import pytest

from trunkline.cli.arguments import limits_of, seconds_of, secrets_of


@pytest.mark.parametrize(
    ("text", "seconds"), [("90s", 90), ("30m", 1800), ("2h", 7200), ("7d", 604_800), ("1h30m", 5400), ("1d1s", 86_401)]
)
def test_durations(text: str, seconds: int) -> None:
    assert seconds_of(text, "--for") == seconds


@pytest.mark.parametrize("text", ["", "1", "m", "1h 30m", "1.5h", "٣h", "1h30", "0m"])
def test_what_is_no_duration(text: str) -> None:
    with pytest.raises(click.BadParameter, match="not a duration"):
        seconds_of(text, "--for")


def test_limits_by_the_names_that_people_write() -> None:
    given = ["memory=512M", "processes=64", "cpu=50", "open-files=100", "output=10K"]
    assert limits_of(given, "--limit") == {
        "memory_bytes": 512 * 2**20,
        "processes": 64,
        "cpu_percent": 50,
        "open_files": 100,
        "output_bytes": 10240,
    }
    assert limits_of(["memory=1000"], "--limit") == {"memory_bytes": 1000}


@pytest.mark.parametrize(
    "value", ["memory", "memory=", "memory=0", "memory=-1", "memory=1.5G", "memory=1T", "cpu=1K", "disk=1"]
)
def test_what_is_no_limit(value: str) -> None:
    with pytest.raises(click.BadParameter):
        limits_of([value], "--limit")


def test_secrets_by_reference() -> None:
    assert secrets_of(["PASSWORD=db/password"], "--secret-env") == {"PASSWORD": "db/password"}


@pytest.mark.parametrize("value", ["PASSWORD", "PASSWORD=", "PASSWORD=db", "PASSWORD=db/", "PASSWORD=/password"])
def test_what_is_no_reference_to_a_secret(value: str) -> None:
    with pytest.raises(click.BadParameter):
        secrets_of([value], "--secret-env")
