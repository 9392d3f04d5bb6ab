"""Two sessions and a slow wire between them, driven at random: what one sends is what the other gets."""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, multiple, rule

from tests.support.session_pair import SessionPair

CHUNKS = st.integers(0, 300)
WINDOWS = st.sampled_from([64, 256, 1000])
SIDES = st.integers(0, 1)


class TwoSessions(RuleBasedStateMachine):
    streams = Bundle("streams")

    @initialize(windows=st.tuples(WINDOWS, WINDOWS), compact=st.booleans())
    def begin(self, windows, compact):
        self.pair = SessionPair(windows, compact)

    @rule(target=streams, side=SIDES)
    def open_stream(self, side):
        stream_id = self.pair.open_stream(side)
        return multiple() if stream_id is None else stream_id

    @rule(side=SIDES, stream_id=streams, size=CHUNKS, last=st.booleans())
    def send(self, side, stream_id, size, last):
        self.pair.send(side, stream_id, size, last and size % 5 == 0)

    @rule(side=SIDES, stream_id=streams)
    def finish(self, side, stream_id):
        self.pair.finish(side, stream_id)

    @rule(side=SIDES, stream_id=consumes(streams))
    def reset(self, side, stream_id):
        self.pair.reset(side, stream_id)

    @rule(side=SIDES, stream_id=streams, share=st.floats(0, 1))
    def consume(self, side, stream_id, share):
        self.pair.consume(side, stream_id, share)

    @rule(side=SIDES, stream_id=streams, share=st.floats(0, 1))
    def withhold(self, side, stream_id, share):
        self.pair.withhold(side, stream_id, share)

    @rule(side=SIDES, stream_id=streams, share=st.floats(0, 1))
    def give(self, side, stream_id, share):
        self.pair.give(side, stream_id, share)

    @rule(side=SIDES)
    def ping(self, side):
        self.pair.ping(side)

    @rule(seconds=st.floats(0.01, 3))
    def wait(self, seconds):
        self.pair.wait(seconds)

    @rule(side=SIDES, size=st.integers(1, 600))
    def deliver(self, side, size):
        self.pair.deliver(side, size)

    @invariant()
    def it_holds(self):
        if hasattr(self, "pair"):
            self.pair.check()

    def teardown(self):
        if hasattr(self, "pair"):
            self.pair.conclude()


TwoSessions.TestCase.settings = settings(max_examples=60, stateful_step_count=60, deadline=None)
TestTwoSessions = TwoSessions.TestCase
