import pytest

from trunkline.channel import errors
from trunkline.channel.errors import ChannelError, ErrorCode

CLASSES = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, ChannelError)]


@pytest.mark.parametrize("kind", [kind for kind in CLASSES if kind is not ChannelError])
def test_every_error_has_a_code_and_a_message(kind):
    error = kind("what happened")
    assert error.code is kind.default_code
    assert str(error) == "what happened"
    assert kind("x", ErrorCode.DRAINING).code is ErrorCode.DRAINING


def test_the_classes_can_be_told_apart_by_code():
    codes = [kind.default_code for kind in CLASSES if kind is not ChannelError]
    assert len(set(codes)) == len(codes) == 6
