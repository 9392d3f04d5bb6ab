"""Lines with the time at which they were written."""

from trunkline.cli.timed_output import OutputTimes, TimedOutput
from trunkline.client.errors import ApiError
from trunkline.client.records.commands import OutputTime


class Shown:
    def __init__(self):
        self.content = b""

    def write(self, piece):
        self.content += piece

    def close(self):
        pass

    async def passed(self):
        pass


class Marks:
    """The marks that a service has, and how often it was asked from where."""

    def __init__(self, *marks):
        self.marks = [OutputTime(offset=offset, time=time) for offset, time in marks]
        self.asked = []
        self.now = 0.0

    async def __call__(self, offset):
        self.asked.append(offset)
        for mark in self.marks:
            if mark.offset >= offset or mark is self.marks[0]:
                yield mark


async def test_each_line_has_the_time_of_its_first_byte_however_it_comes():
    marks, shown = Marks((0, 1_000), (8, 61_500)), Shown()
    output = TimedOutput(shown, OutputTimes(marks, lambda: marks.now), 0)
    for piece in (b"o", b"ne\ntwo\n", b"three\r\nfo", b"ur"):
        await output.write(piece)
    assert shown.content == (
        b"1970-01-01T00:00:01.000Z one\n1970-01-01T00:00:01.000Z two\n"
        b"1970-01-01T00:01:01.500Z three\r\n1970-01-01T00:01:01.500Z four"
    )
    assert marks.asked == [0], "no oftener than there can be anything new"


async def test_new_marks_are_asked_for_once_there_may_be_some():
    marks, shown = Marks((0, 0)), Shown()
    output = TimedOutput(shown, OutputTimes(marks, lambda: marks.now), 0)
    await output.write(b"one\n")
    marks.marks.append(OutputTime(offset=4, time=5_000))
    marks.now = 1.0
    await output.write(b"two\n")
    assert shown.content.endswith(b"1970-01-01T00:00:05.000Z two\n")
    assert marks.asked == [0, 0]


async def test_a_time_that_is_none_costs_no_output():
    marks, shown = Marks((0, 2**53 - 1)), Shown()
    await TimedOutput(shown, OutputTimes(marks, lambda: marks.now), 0).write(b"one\n")
    assert shown.content == b"- one\n"


async def test_times_that_cannot_be_had_cost_no_output():
    async def refused(offset):
        raise ApiError(404, "ENDPOINT_NOT_FOUND", "an older release")
        yield

    shown = Shown()
    await TimedOutput(shown, OutputTimes(refused, lambda: 0.0), 0).write(b"one\n")
    assert shown.content == b"- one\n"
