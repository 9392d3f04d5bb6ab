from relay.links.supersede import Verdict
from relay.workers.directory import Directory, Entry


def entry(worker: int, number: int, instance: str = "a", sequence: int = 1, node: str = "vm-1") -> Entry:
    return Entry(worker, number, f"nd-{node}", "ws-1", "finance", node, "spiffe://t/n", instance, sequence)


def test_the_newer_link_of_a_process_is_the_nodes():
    directory = Directory()
    assert directory.opened(entry(1, 1, sequence=1))
    assert directory.opened(entry(2, 1, sequence=2))
    assert [(found.worker, found.number) for found in directory] == [(2, 1)]
    assert directory.closed(1, 1) is None
    assert len(directory) == 1


def test_an_older_link_and_another_process_are_not():
    directory = Directory()
    directory.opened(entry(1, 1, sequence=2))
    assert not directory.opened(entry(2, 1, sequence=1))
    assert not directory.opened(entry(2, 2, instance="b", sequence=9))
    assert directory.judge("nd-vm-1", "b", 9) is Verdict.CHALLENGE
    assert [(found.worker, found.number) for found in directory] == [(1, 1)]


def test_one_that_said_goodbye_gives_way():
    directory = Directory()
    directory.opened(entry(1, 1))
    retired = directory.retired(1, 1, gone=True)
    assert retired is not None
    assert not retired.current
    assert directory.judge("nd-vm-1", "b", 1) is Verdict.ADMIT
    assert directory.judge("nd-vm-1", "a", 1) is Verdict.STALE


def test_a_lost_worker_takes_its_own_along():
    directory = Directory()
    directory.opened(entry(1, 1))
    directory.opened(entry(2, 1, node="vm-2"))
    assert [found.node for found in directory.lost(1)] == ["vm-1"]
    assert [found.node for found in directory] == ["vm-2"]
    assert directory.closed(1, 1) is None
