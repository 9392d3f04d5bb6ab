import gc
import weakref

from trunkline.runtime.collector import program_set_aside


class Knot:
    def __init__(self) -> None:
        self.itself = self


def test_what_was_there_is_not_looked_at_again():
    before = [Knot()]
    with program_set_aside():
        assert all(known is not before[0] for known in gc.get_objects())
        assert gc.get_freeze_count() > 10_000
    assert gc.get_freeze_count() == 0
    assert any(known is before[0] for known in gc.get_objects())


def test_what_comes_later_is_collected_as_ever():
    with program_set_aside():
        gone = weakref.ref(Knot())
        gc.collect()
    assert gone() is None
