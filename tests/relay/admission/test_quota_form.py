"""Quotas as the control plane states them, read strictly."""

import json

import pytest

from relay.admission.quota_form import MAX_WORKSPACES, Quota, QuotaError, WorkspaceQuotas, read_quotas


def test_bounds_by_workspace() -> None:
    stated = {
        "ws-a": {"workspace": {"calls_per_second": 10}, "sender": {"concurrent_calls": 3, "bytes_per_second": 2**40}},
        "ws-b": {"sender": {"bytes_per_second": 1}},
        "ws-c": {},
    }
    assert read_quotas(json.dumps(stated)) == {
        "ws-a": WorkspaceQuotas(Quota(calls_per_second=10), Quota(concurrent_calls=3, bytes_per_second=2**40)),
        "ws-b": WorkspaceQuotas(sender=Quota(bytes_per_second=1)),
        "ws-c": WorkspaceQuotas(),
    }


def test_members_of_a_later_release_are_ignored() -> None:
    stated = {"ws-a": {"workspace": {"calls_per_second": 5, "wishes": 3}, "node": {}}}
    assert read_quotas(json.dumps(stated)) == {"ws-a": WorkspaceQuotas(Quota(calls_per_second=5))}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[",
        "[" * 100_000,
        "null",
        "[]",
        '{"ws-a": null}',
        '{"ws-a": {"workspace": []}}',
        '{"ws-a": {"sender": 3}}',
        *(
            f'{{"ws-a": {{"workspace": {{"calls_per_second": {bound}}}}}}}'
            for bound in ("0", "-1", "1.5", '"1"', "true", "1e400", "[]")
        ),
        json.dumps({f"ws-{number}": {} for number in range(MAX_WORKSPACES + 1)}),
    ],
)
def test_malformed_quotas_are_refused(text: str) -> None:
    with pytest.raises(QuotaError):
        read_quotas(text)
