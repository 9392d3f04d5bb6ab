"""How the `websockets` core reads what a peer sends, for comparison: it collects frames until they are whole."""

from websockets.frames import CloseCode, Frame, Opcode
from websockets.protocol import Protocol, Side, State

MOST_MESSAGE_BYTES = 2000


def read_by_core(data: bytes, *, masked: bool) -> tuple[bytes, CloseCode | int | None]:
    """The payload of the frames that the core takes, and the code that it closes with."""
    core = Protocol(Side.SERVER if masked else Side.CLIENT, state=State.OPEN, max_size=MOST_MESSAGE_BYTES)
    core.receive_data(data)
    payload, code = b"", None
    for event in core.events_received():
        assert isinstance(event, Frame)
        if event.opcode is Opcode.TEXT:
            return payload, CloseCode.UNSUPPORTED_DATA
        if event.opcode in (Opcode.BINARY, Opcode.CONT):
            payload += event.data
    if core.close_sent is not None:
        code = core.close_sent.code
    return payload, code
