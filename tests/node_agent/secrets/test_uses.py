from node_agent.secrets.uses import MOST_IN_A_REPORT, MOST_WAITING, SecretUse, UseLog


def use(number: int) -> SecretUse:
    return SecretUse("db/password", 1, f"c-{number}", "operator/x", "file", number)


def test_a_report_is_the_same_until_it_is_taken():
    log = UseLog("me")
    log.record(use(1))
    first = log.report()
    log.record(use(2))
    assert log.report() is first
    assert first.document()["uses"][0]["command_id"] == "c-1"
    log.taken()
    second = log.report()
    assert (first.report_id, second.report_id, [one.command_id for one in second.uses]) == ("me-1", "me-2", ["c-2"])
    log.taken()
    assert len(log) == 0


def test_two_processes_name_their_reports_differently():
    assert UseLog().report().report_id != UseLog().report().report_id


def test_what_waits_has_a_bound_and_the_rest_is_counted():
    log = UseLog("me")
    for number in range(MOST_WAITING + 5):
        log.record(use(number))
    first = log.report()
    assert (len(first.uses), first.dropped) == (MOST_IN_A_REPORT, 5)
    log.taken()
    assert log.report().dropped == 0


def test_each_use_is_heard_of():
    log, heard = UseLog("me"), []
    log.subscribe(lambda: heard.append(1))
    log.record(use(1))
    assert heard == [1]


def test_a_report_that_is_given_up_is_counted_in_the_next():
    log = UseLog("me")
    log.record(use(1))
    log.record(use(2))
    first = log.report()
    log.abandon()
    second = log.report()
    assert (second.uses, second.dropped) == ((), 2)
    assert second.report_id != first.report_id
    log.abandon()
    assert log.report().dropped == 2
