"""Whatever is written, cut and taken in whatever order: both ends get exactly what the other wrote."""

from dataclasses import dataclass, field

from hypothesis import given
from hypothesis import strategies as st

from trunkline.channel.shell_flow import Bytes, ShellFlow, ShellRole


@dataclass
class End:
    flow: ShellFlow
    wrote: bytes = b""
    got: bytes = b""
    untaken: int = 0
    wire: bytes = b""
    counter: int = field(default=0)

    def write(self, size: int) -> None:
        size = min(size, self.flow.room_bytes)
        content = bytes((self.counter + index) % 251 for index in range(size))
        self.counter += size
        self.flow.write(content)
        self.wrote += content

    def receive(self, data: bytes) -> None:
        for event in self.flow.receive_data(data):
            if isinstance(event, Bytes):
                self.got += event.content
                self.untaken += len(event.content)

    def take(self, size: int) -> None:
        size = min(size, self.untaken)
        self.flow.taken(size)
        self.untaken -= size


steps = st.lists(
    st.tuples(
        st.sampled_from(["write", "carry", "take", "cut"]), st.booleans(), st.integers(min_value=0, max_value=70_000)
    ),
    max_size=60,
)


@given(steps)
def test_nothing_is_lost_and_nothing_comes_twice(steps):
    ends = End(ShellFlow(ShellRole.CALLER)), End(ShellFlow(ShellRole.AGENT))

    def connect() -> None:
        for end in ends:
            end.flow.connected()
            end.wire = b""

    def carry(source: End, target: End, size: int) -> None:
        source.wire += source.flow.data_to_send()
        target.receive(source.wire[:size])
        source.wire = source.wire[size:]

    connect()
    for word, turned, size in steps:
        one, other = reversed(ends) if turned else ends
        if word == "write":
            one.write(size)
        elif word == "carry":
            carry(one, other, size)
        elif word == "take":
            one.take(size)
        else:
            connect()
    connect()
    for _ in range(4):
        for one, other in (ends, ends[::-1]):
            carry(one, other, 10**9)
            other.take(10**9)
    assert ends[0].got == ends[1].wrote
    assert ends[1].got == ends[0].wrote
    assert [end.flow.room_bytes for end in ends] == [256 * 1024] * 2
