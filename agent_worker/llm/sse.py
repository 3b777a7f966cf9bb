"""Cut a byte stream into the payloads of server-sent events.

One `data:` line is one payload, as every chat-completion server writes it.
Comments, blank lines and other fields are passed over. Knows nothing of what a
payload means, and never holds more than one line of bounded length.
"""

from collections.abc import Iterator

from agent_worker.llm.errors import LLMMalformed

DONE = b"[DONE]"
_BOM = b"\xef\xbb\xbf"


class EventLines:
    """Collects bytes until lines are whole."""

    def __init__(self, max_line: int = 1024 * 1024) -> None:
        self._max_line = max_line
        self._tail = bytearray()
        self._started = False

    def feed(self, data: bytes) -> Iterator[bytes]:
        """The payloads that `data` completes.

        Raises:
            LLMMalformed: a line is over the limit.
        """
        end = data.rfind(b"\n")
        if end < 0:
            self._keep(data)
            return
        head = bytes(self._tail) + data[:end] if self._tail else data[:end]
        self._tail.clear()
        self._keep(data[end + 1 :])
        for line in head.split(b"\n"):
            yield from self._payload(line)

    def close(self) -> Iterator[bytes]:
        """The payload of a last line that no line end followed."""
        line = bytes(self._tail)
        self._tail.clear()
        yield from self._payload(line)

    def _keep(self, data: bytes) -> None:
        if len(self._tail) + len(data) > self._max_line:
            raise self._too_long()
        self._tail += data

    def _payload(self, line: bytes) -> Iterator[bytes]:
        if len(line) > self._max_line:
            raise self._too_long()
        if not self._started:
            line = line.removeprefix(_BOM)
            self._started = True
        if line.startswith(b"data:") and (payload := line[5:].strip()):
            yield payload

    def _too_long(self) -> LLMMalformed:
        return LLMMalformed("The model's stream has a line over the limit.", max_line_bytes=self._max_line)
