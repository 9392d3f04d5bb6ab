"""As many connections as wanted, or as descriptors allow; that a process has none left, it says."""

import resource

import pytest

from trunkline.runtime.descriptors import connections_within


def test_there_are_no_more_connections_than_descriptors(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(resource, "getrlimit", lambda _: (1024, 1024))
    assert connections_within(4096) == 768
    assert connections_within(768) == 768
    monkeypatch.setattr(resource, "getrlimit", lambda _: (64, 64))
    assert connections_within(4096) == 32
