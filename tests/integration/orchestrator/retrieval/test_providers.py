"""What every embedding provider promises: one suite, each provider; the endpoint is a local stand-in."""

import math
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import httpx2
import orjson
import pytest
from pydantic import SecretStr

from orchestrator.retrieval.embedding import (
    CachedEmbedding,
    EmbedderMissing,
    EmbeddingProvider,
    EmbeddingUnavailable,
)
from orchestrator.retrieval.hashed import HashedEmbedding
from orchestrator.retrieval.minilm import MiniLMEmbedding
from orchestrator.retrieval.openai_compatible import OpenAIEmbedding
from orchestrator.retrieval.text import Script
from tests.integration.orchestrator.retrieval.endpoint import StandIn

Opened = Callable[[], AbstractAsyncContextManager[EmbeddingProvider]]


@asynccontextmanager
async def _hashed() -> AsyncIterator[EmbeddingProvider]:
    yield HashedEmbedding()


@asynccontextmanager
async def _cached() -> AsyncIterator[EmbeddingProvider]:
    yield CachedEmbedding(HashedEmbedding(), kept=2)


@asynccontextmanager
async def _endpoint() -> AsyncIterator[EmbeddingProvider]:
    async with StandIn() as server, httpx2.AsyncClient(trust_env=False) as client:
        yield _provider(client, server)


@asynccontextmanager
async def _minilm() -> AsyncIterator[EmbeddingProvider]:
    try:
        provider = MiniLMEmbedding()
    except EmbedderMissing as exc:
        pytest.skip(f"MINILM IS NOT INSTALLED, NOT CHECKED: {exc}")
    yield provider


def _provider(client: httpx2.AsyncClient, server: StandIn, **overrides: Any) -> OpenAIEmbedding:
    said: dict[str, Any] = {"base_url": server.url, "model": "stand-in", "dimension": 8, "api_key": SecretStr("k" * 16)}
    return OpenAIEmbedding(client, **said | overrides)


@pytest.fixture(params=[_hashed, _cached, _endpoint, _minilm], ids=["hashed", "cached", "openai", "minilm"])
async def provider(request: pytest.FixtureRequest) -> AsyncIterator[EmbeddingProvider]:
    opened: Opened = request.param
    async with opened() as provider:
        yield provider


TEXTS = ["Switch the light off", "What is the weather?", "выключи свет", "", "Switch the light off", "x" * 5000]


async def test_there_is_a_vector_of_the_declared_dimension_for_each_text(provider: EmbeddingProvider) -> None:
    vectors = await provider.encode(TEXTS)

    assert [len(vector) for vector in vectors] == [provider.dimension] * len(TEXTS)
    assert all(math.isfinite(number) for vector in vectors for number in vector)


async def test_vectors_of_texts_have_length_one(provider: EmbeddingProvider) -> None:
    vectors = await provider.encode(TEXTS[:3])

    assert [math.hypot(*vector) for vector in vectors] == pytest.approx([1.0] * 3, abs=1e-4)


async def test_a_vector_depends_on_its_text_alone(provider: EmbeddingProvider) -> None:
    together = await provider.encode(TEXTS[:3])
    apart = [(await provider.encode([text]))[0] for text in reversed(TEXTS[:3])]

    for one, other in zip(together, reversed(apart), strict=True):
        assert one == pytest.approx(other, abs=1e-4)


async def test_no_texts_give_no_vectors(provider: EmbeddingProvider) -> None:
    assert await provider.encode([]) == []


async def test_many_texts_keep_their_order(provider: EmbeddingProvider) -> None:
    texts = [f"tool number {n}" for n in range(70)]

    vectors = await provider.encode(texts)

    assert vectors[69] == pytest.approx((await provider.encode([texts[69]]))[0], abs=1e-4)


async def test_it_says_what_it_is(provider: EmbeddingProvider) -> None:
    assert provider.name
    assert provider.scripts
    assert provider.scripts <= frozenset(Script)


async def test_the_names_of_models_that_differ_differ() -> None:
    assert HashedEmbedding(512).name != HashedEmbedding(1024).name


async def test_a_hashed_vector_is_the_same_in_every_process_and_release() -> None:
    (vector,) = await HashedEmbedding(16).encode(["Weather in Казань"])

    assert [round(number, 4) for number in vector] == SNAPSHOT


async def test_the_cache_asks_for_a_text_once() -> None:
    asked: list[str] = []

    class Counting(HashedEmbedding):
        async def encode(self, texts: Any) -> list[list[float]]:
            asked.extend(texts)
            return await super().encode(texts)

    cached = CachedEmbedding(Counting(), kept=2)
    await cached.encode(["a", "b", "a"])
    await cached.encode(["b"])
    await cached.encode(["c"])
    await cached.encode(["a", "b"])

    assert asked == ["a", "b", "c", "a"]


async def test_the_endpoint_is_asked_as_openai_is() -> None:
    async with StandIn() as server, httpx2.AsyncClient(trust_env=False) as client:
        await _provider(client, server).encode(["hello"])

    (request,) = server.requests
    assert request.line == "POST /v1/embeddings HTTP/1.1"
    assert request.headers["authorization"] == "Bearer " + "k" * 16
    assert request.body == {"model": "stand-in", "input": ["hello"], "encoding_format": "float"}


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (500, b"{}"),
        (401, b'{"error": {"message": "no"}}'),
        (200, b"not json"),
        (200, b"[]"),
        (200, b'{"data": []}'),
        (200, orjson.dumps({"data": [{"index": 0, "embedding": [1.0]}]})),
        (200, orjson.dumps({"data": [{"index": 1, "embedding": [1.0] * 8}]})),
        (200, b'{"data": [{"index": 0, "embedding": [1e999, 0, 0, 0, 0, 0, 0, 0]}]}'),
    ],
)
async def test_an_answer_that_was_not_agreed_is_unavailable(status: int, body: bytes) -> None:
    async with StandIn() as server, httpx2.AsyncClient(trust_env=False) as client:
        server.answer = (status, body)

        with pytest.raises(EmbeddingUnavailable):
            await _provider(client, server).encode(["hello"])


async def test_an_endpoint_that_is_away_is_unavailable() -> None:
    async with StandIn() as server:
        pass
    async with httpx2.AsyncClient(trust_env=False) as client:
        with pytest.raises(EmbeddingUnavailable) as caught:
            await _provider(client, server).encode(["hello"])

    assert caught.value.retryable
    assert "k" * 16 not in str(caught.value)


async def test_minilm_knows_what_a_text_means() -> None:
    async with _minilm() as minilm:
        food, meal, baby = await minilm.encode(
            ["A man is eating food.", "A man eats something.", "The girl is carrying a baby."]
        )

    assert sum(a * b for a, b in zip(food, meal, strict=True)) == pytest.approx(0.8749, abs=2e-3)
    assert sum(a * b for a, b in zip(food, baby, strict=True)) < 0.1


SNAPSHOT = [
    0.1655,
    -0.1655,
    0.0,
    0.0828,
    0.4966,
    0.331,
    0.0,
    -0.1655,
    -0.331,
    -0.331,
    0.1655,
    0.331,
    -0.1655,
    0.0,
    -0.4138,
    0.0,
]
