"""The command line, run in this process against a control plane that the test makes up."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.fake_control_plane import FakeControlPlane, fake_control_plane
from trunkline.cli.delivery_notes import DeliveryNotes
from trunkline.cli.main import main


@dataclass(frozen=True)
class Outcome:
    status: int
    stdout: bytes
    stderr: str


Trunkline = Callable[..., Outcome]


@pytest.fixture(scope="module")
def shared_fake(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FakeControlPlane]:
    with fake_control_plane(tmp_path_factory.mktemp("control-plane")) as fake:
        yield fake


@pytest.fixture
def fake(shared_fake: FakeControlPlane) -> FakeControlPlane:
    shared_fake.left()
    shared_fake.nodes, shared_fake.canned, shared_fake.commands = [], {}, {}
    shared_fake.requests, shared_fake.failures, shared_fake.cancelled = [], [], []
    shared_fake.adoptions, shared_fake.stopped = [], {}
    return shared_fake


@pytest.fixture
def trunkline(
    fake: FakeControlPlane, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsysbinary: pytest.CaptureFixture[bytes]
) -> Trunkline:
    """Runs the command against the fake in an empty directory."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("NO_COLOR", "1")
    for name, value in fake.environment.items():
        monkeypatch.setenv(name, value)

    def run(*arguments: str) -> Outcome:
        capsysbinary.readouterr()
        status = main(arguments)
        captured = capsysbinary.readouterr()
        return Outcome(status, captured.out, captured.err.decode())

    return run


@pytest.fixture
def told() -> list[str]:
    """What is told of commands."""
    return []


@pytest.fixture
def notes(told: list[str]) -> DeliveryNotes:
    """What tells it."""
    return DeliveryNotes(told.append)
