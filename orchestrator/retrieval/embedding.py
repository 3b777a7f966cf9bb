"""What turns a text into a vector: one protocol, and the cache in front of it.

The providers: `HashedEmbedding` (built in, the default), `OpenAIEmbedding` (an
endpoint), `MiniLMEmbedding` (local, an optional extra). A provider's `name` is
the key of its vectors in the store: whatever changes a vector changes the name.
"""

from collections import OrderedDict
from collections.abc import Sequence
from typing import Protocol

from maruntime.errors import MaruntimeError, Unavailable
from orchestrator.retrieval.text import Script


class EmbeddingUnavailable(Unavailable):
    """The embedding provider does not answer."""

    code = "embedding_unavailable"


class EmbedderMissing(MaruntimeError):
    """The embedding provider is not installed."""

    code = "embedder_missing"


class EmbeddingProvider(Protocol):
    """Gives a unit vector of `dimension` numbers for each text, in the order asked.

    `scripts` are those that it understands; the search gives its vectors no
    weight for a text of another script.
    """

    @property
    def name(self) -> str:
        """The key of its vectors."""
        ...

    @property
    def dimension(self) -> int:
        """How long a vector is."""
        ...

    @property
    def scripts(self) -> frozenset[Script]:
        """The scripts that it understands."""
        ...

    async def encode(self, texts: Sequence[str]) -> list[list[float]]:
        """Give the vectors. Never blocks the event loop.

        Raises:
            EmbeddingUnavailable: the provider does not answer, or not as agreed.
        """
        ...


class CachedEmbedding:
    """A provider that remembers the vectors of the last texts."""

    def __init__(self, inner: EmbeddingProvider, *, kept: int = 2048) -> None:
        self._inner = inner
        self._kept = kept
        self._vectors: OrderedDict[str, list[float]] = OrderedDict()

    @property
    def name(self) -> str:
        """The key of its vectors: that of the provider behind."""
        return self._inner.name

    @property
    def dimension(self) -> int:
        """How long a vector is."""
        return self._inner.dimension

    @property
    def scripts(self) -> frozenset[Script]:
        """The scripts that it understands."""
        return self._inner.scripts

    async def encode(self, texts: Sequence[str]) -> list[list[float]]:
        """Give the vectors, asking the provider only for texts that are new."""
        known = {text: self._vectors[text] for text in texts if text in self._vectors}
        new = [text for text in dict.fromkeys(texts) if text not in known]
        if new:
            known.update(zip(new, await self._inner.encode(new), strict=True))
        for text in known:
            self._vectors[text] = known[text]
            self._vectors.move_to_end(text)
        while len(self._vectors) > self._kept:
            self._vectors.popitem(last=False)
        return [known[text] for text in texts]
