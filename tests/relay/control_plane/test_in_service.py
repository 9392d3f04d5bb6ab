"""Whether a relay that the control plane refuses is ready: as long as nodes are linked to it."""

import pytest

from relay.control_plane.in_service import InService
from trunkline.runtime.lifecycle import Condition


@pytest.fixture
def condition() -> Condition:
    return Condition("in_service", lambda: None)


def test_a_relay_is_in_service_until_it_is_refused_and_its_nodes_have_left(condition: Condition):
    in_service = InService(condition)
    in_service.counted(2)
    in_service.refused(401, "this certificate was revoked")
    assert condition.reason is None
    in_service.counted(0)
    assert condition.reason is not None
    assert "this certificate was revoked" in condition.reason


def test_one_that_never_had_nodes_is_out_at_once(condition: Condition):
    InService(condition).refused(401, "deleted")
    assert condition.reason is not None


@pytest.mark.parametrize("status", [400, 403, 404, 409, 429, 500, 503])
def test_other_answers_say_nothing_about_the_relay(condition: Condition, status: int):
    InService(condition).refused(status, "something")
    assert condition.reason is None


def test_one_that_is_spoken_to_again_or_linked_again_is_back(condition: Condition):
    in_service = InService(condition)
    in_service.refused(401, "not known")
    in_service.confirmed()
    assert condition.reason is None
    in_service.refused(401, "not known")
    in_service.counted(1)
    assert condition.reason is None
