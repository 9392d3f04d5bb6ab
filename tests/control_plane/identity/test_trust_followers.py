from prometheus_client import CollectorRegistry

from control_plane.identity.trust_followers import TrustFollowers
from control_plane.metrics import ControlPlaneMetrics


def test_a_relay_follows_while_any_of_its_feeds_is_open():
    registry = CollectorRegistry()
    followers = TrustFollowers(ControlPlaneMetrics(registry))
    with followers.following("rl-1"):
        with followers.following("rl-1"), followers.following("rl-2"):
            assert len(followers) == 3
            assert registry.get_sample_value("trunkline_control_plane_trust_document_feeds") == 3.0
        assert "rl-1" in followers
        assert "rl-2" not in followers
    assert "rl-1" not in followers
    assert len(followers) == 0
