from relay.bounds.lag_watch import REMEMBER_SECONDS, LagWatch


def test_a_loop_that_runs_late_is_remarked_for_a_while() -> None:
    seen: list[float] = []
    now = 100.0
    watch = LagWatch(seen.append, lambda: now)
    watch.heard(0.04)
    assert watch.remark() is None
    watch.heard(0.31)
    now += 1
    watch.heard(0.2)
    assert watch.remark() == "it ran 0.3 s late: the relay has too little CPU for what it does"
    now += REMEMBER_SECONDS - 1
    assert watch.remark() == "it ran 0.2 s late: the relay has too little CPU for what it does"
    now += 1
    assert watch.remark() is None
    assert seen == [0.04, 0.31, 0.2]
