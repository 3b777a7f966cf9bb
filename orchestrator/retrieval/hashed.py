"""The built-in embedding: words and their character n-grams, hashed into a fixed number of places.

No model, no download, any alphabet. It sees spelling and not meaning: a
synonym is a stranger to it.
"""

import asyncio
import math
from collections.abc import Sequence
from zlib import crc32

from orchestrator.retrieval.ngrams import counted
from orchestrator.retrieval.text import Script, normalised
from orchestrator.retrieval.weak_words import weighted_words

_SHORTEST, _LONGEST = 3, 5
_SIGN = 1 << 31


class HashedEmbedding:
    """A stable function of the text alone; every process gives the same vector."""

    scripts = frozenset(Script)

    def __init__(self, dimension: int = 512) -> None:
        self.dimension = dimension
        self.name = f"hashed-ngrams-v1-{dimension}"

    async def encode(self, texts: Sequence[str]) -> list[list[float]]:
        """Give a unit vector for each text; in a thread, since many texts are many milliseconds."""
        return await asyncio.to_thread(lambda: [self._vector(text) for text in texts])

    def _vector(self, text: str) -> list[float]:
        words = weighted_words(normalised(text))
        features = counted(words, _SHORTEST, _LONGEST)
        for word, weight in words:
            features[word] = features.get(word, 0.0) + weight
        places: dict[int, float] = {}
        for feature, count in features.items():
            code = crc32(feature.encode())
            value = 1.0 + math.log(count) if count > 1.0 else count
            place = code % self.dimension
            places[place] = places.get(place, 0.0) + (value if code & _SIGN else -value)
        length = math.sqrt(math.fsum(value * value for value in places.values())) or 1.0
        vector = [0.0] * self.dimension
        for place, value in places.items():
            vector[place] = value / length
        return vector
