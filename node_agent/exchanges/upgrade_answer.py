"""The service's answer to a request for an upgrade: bytes are raw only once the service has agreed."""

from trunkline.channel.heads import HeadBuffer, parse_response_head

SWITCHING_PROTOCOLS = 101
FIRST_FINAL_STATUS = 200


class UpgradeAnswer:
    """Reads the heads that come before the decision, and passes everything on."""

    __slots__ = ("_buffer", "_method", "_protocol", "accepted")

    def __init__(self, method: bytes, protocol: bytes) -> None:
        self._method = method
        self._protocol = protocol
        self._buffer = HeadBuffer()
        self.accepted: bool | None = None
        """What the service decided; None until it has."""

    def receive_data(self, data: bytes) -> bytes:
        """Return the bytes for the caller: whole heads only, and once it is decided whatever follows.

        Raises:
            HeadError: the answer is not HTTP/1.1, or agrees to what nobody asked for.
        """
        passed = b""
        while self.accepted is None:
            raw = self._buffer.receive_data(data)
            if raw is None:
                return passed
            response = parse_response_head(raw, request_method=self._method, upgrade=self._protocol)
            if response.status == SWITCHING_PROTOCOLS or response.status >= FIRST_FINAL_STATUS:
                self.accepted = response.status == SWITCHING_PROTOCOLS
            passed += raw
            data, self._buffer = self._buffer.leftover, HeadBuffer()
        return passed + data
