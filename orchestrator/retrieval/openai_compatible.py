"""Embeddings of an OpenAI-compatible endpoint, over HTTP: `POST {base_url}/embeddings`."""

import math
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import httpx2
from pydantic import SecretStr

from orchestrator.retrieval.embedding import EmbeddingUnavailable
from orchestrator.retrieval.text import Script

_BATCH = 64


class OpenAIEmbedding:
    """A model behind an endpoint. The client belongs to the caller, who closes it.

    Which scripts the model understands cannot be asked: the operator says it.
    """

    def __init__(
        self,
        client: httpx2.AsyncClient,
        *,
        base_url: str,
        model: str,
        dimension: int,
        api_key: SecretStr | None = None,
        scripts: frozenset[Script] = frozenset(Script),
        timeout: timedelta = timedelta(seconds=10),
    ) -> None:
        self.name = f"openai-{model}-{dimension}"
        self.dimension = dimension
        self.scripts = scripts
        self._client = client
        self._url = f"{base_url.rstrip('/')}/embeddings"
        self._model = model
        self._headers = {"Authorization": f"Bearer {api_key.get_secret_value()}"} if api_key else {}
        self._timeout = timeout.total_seconds()

    async def encode(self, texts: Sequence[str]) -> list[list[float]]:
        """Give a unit vector for each text, 64 texts a request.

        Raises:
            EmbeddingUnavailable: no answer, an error, or vectors that were not agreed.
        """
        vectors: list[list[float]] = []
        for start in range(0, len(texts), _BATCH):
            vectors.extend(await self._batch(list(texts[start : start + _BATCH])))
        return vectors

    async def _batch(self, texts: list[str]) -> list[list[float]]:
        body = {"model": self._model, "input": [text or " " for text in texts], "encoding_format": "float"}
        try:
            answer = await self._client.post(self._url, json=body, headers=self._headers, timeout=self._timeout)
            answer.raise_for_status()
            return self._read(answer.json(), len(texts))
        except (httpx2.HTTPError, httpx2.InvalidURL) as exc:
            raise EmbeddingUnavailable(f"{self._url} does not answer: {type(exc).__name__}") from exc
        except (ValueError, KeyError, TypeError, AttributeError) as exc:
            raise EmbeddingUnavailable(f"{self._url} gave no embeddings: {exc}") from exc

    def _read(self, answer: Any, count: int) -> list[list[float]]:
        items = sorted(answer["data"], key=lambda item: item["index"])
        vectors = [[float(number) for number in item["embedding"]] for item in items]
        if [item["index"] for item in items] != list(range(count)):
            raise ValueError(f"{len(vectors)} vectors for {count} texts")
        if any(len(vector) != self.dimension for vector in vectors):
            raise ValueError(f"not {self.dimension} numbers each")
        return [_unit(vector) for vector in vectors]


def _unit(vector: list[float]) -> list[float]:
    length = math.sqrt(math.fsum(number * number for number in vector))
    if not math.isfinite(length):
        raise ValueError("numbers that are not finite")
    return [number / length for number in vector] if length else vector
