from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from relay.metrics import RelayMetrics
from relay.settings import TrustSettings
from relay.trust.age import TrustAge
from relay.trust.in_force import TrustInForce
from tests.support.identities import IdentityKit
from tests.support.relay_trust import TrustPress
from trunkline.runtime.clock import ManualClock
from trunkline.runtime.lifecycle import Lifecycle
from trunkline.runtime.logs import get_logger
from trunkline.runtime.systemd import ServiceNotifier


@pytest.fixture(scope="module")
def kit(tmp_path_factory) -> IdentityKit:
    return IdentityKit(tmp_path_factory.mktemp("identities"))


class Fixture:
    def __init__(self, kit: IdentityKit, directory: Path, refuse_after_seconds: float | None) -> None:
        self.clock = ManualClock(now=kit.now)
        self.trust = TrustInForce(TrustPress(kit).store(), self.clock, cache_entries=10)
        self.registry = CollectorRegistry()
        self.lifecycle = Lifecycle(
            state_directory=directory, notifier=ServiceNotifier.from_environment({}), log=get_logger("test")
        )
        self.age = TrustAge(
            settings=TrustSettings(refuse_after_seconds=refuse_after_seconds),
            trust=self.trust,
            fresh=self.lifecycle.condition("trust_fresh"),
            metrics=RelayMetrics(self.registry),
            clock=self.clock,
            log=get_logger("test.trust"),
        )
        self.lifecycle.remark("trust_document", self.age.remark)
        self.lifecycle.started()

    def pass_seconds(self, seconds: int) -> None:
        for _ in range(seconds):
            self.clock.advance(1)
            self.age.look()


async def test_it_warns_at_15_s_once_a_loss_and_goes_on(kit, tmp_path, capsys):
    relay = Fixture(kit, tmp_path, None)
    relay.pass_seconds(14)
    assert relay.lifecycle.remarks() == {}
    relay.pass_seconds(86)
    assert relay.lifecycle.remarks() == {"trust_document": "not confirmed by the control plane for 100 s"}
    assert relay.registry.get_sample_value("trunkline_relay_trust_age_seconds") == 100.0
    assert relay.lifecycle.ready
    assert not relay.trust.stale
    relay.age.confirmed()
    assert relay.lifecycle.remarks() == {}
    assert relay.registry.get_sample_value("trunkline_relay_trust_age_seconds") == 0.0
    relay.pass_seconds(20)
    assert capsys.readouterr().out.count("trust.old") == 2


async def test_beyond_the_limit_nothing_new_is_admitted_until_it_is_confirmed_again(kit, tmp_path):
    relay = Fixture(kit, tmp_path, 30)
    relay.pass_seconds(29)
    before = relay.trust.standing
    assert not relay.trust.stale
    relay.pass_seconds(1)
    assert relay.trust.stale
    # Grants that were made before are asked for anew, and refused.
    assert relay.trust.standing is not before
    assert list(relay.lifecycle.unmet_conditions()) == ["trust_fresh"]
    relay.age.confirmed()
    assert not relay.trust.stale
    assert relay.lifecycle.ready


def test_a_limit_that_a_restart_of_the_control_plane_would_reach_is_refused():
    with pytest.raises(ValueError, match="greater than or equal to 5"):
        TrustSettings(refuse_after_seconds=1)


async def test_trust_grows_old_while_the_machine_is_suspended(kit, tmp_path):
    relay = Fixture(kit, tmp_path, 300.0)
    relay.clock.jump(3600.0)  # the monotonic clock stood still
    relay.age.look()
    assert relay.age.seconds == 3600.0
    assert relay.trust.stale
    relay.age.confirmed()
    assert relay.age.seconds == 0.0
    assert not relay.trust.stale
    relay.clock.jump(-3600.0)
    relay.pass_seconds(300)
    assert relay.trust.stale
