"""How well and how fast the tool search finds tools, through the stored index as production reads it.

Starts a Postgres of its own in a throw-away folder, fills the index, searches.

    .venv/bin/python bench/tool_search.py                 # quality and latency
    .venv/bin/python bench/tool_search.py --tune          # what the constants of Ranking were chosen by

The data is public (its README says what it is); `MARUNTIME_SHARED_DATA` names
its folder. A fifth of the queries of each set (by a hash of their text) is
"dev": constants were chosen on those alone. The tables give the other four
fifths ("held out") and all, since the baselines were measured on all.
"""

import argparse
import asyncio
import gc
import hashlib
import itertools
import json
import math
import os
import random
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # its threads spin, and cost more than they save
sys.path.insert(0, str(ROOT))

import asyncpg  # noqa: E402

from orchestrator.persistence import schema  # noqa: E402
from orchestrator.persistence.engine import opened_pool  # noqa: E402
from orchestrator.retrieval.documents import ToolDocument  # noqa: E402
from orchestrator.retrieval.embedding import EmbedderMissing, EmbeddingProvider  # noqa: E402
from orchestrator.retrieval.hashed import HashedEmbedding  # noqa: E402
from orchestrator.retrieval.index import ToolIndex  # noqa: E402
from orchestrator.retrieval.inverted import BM25  # noqa: E402
from orchestrator.retrieval.minilm import MiniLMEmbedding  # noqa: E402
from orchestrator.retrieval.ranking import Ranking  # noqa: E402
from orchestrator.retrieval.search import ToolSearch  # noqa: E402
from orchestrator.retrieval.text import script_of, split_into_parts  # noqa: E402
from orchestrator.settings import DatabaseSettings  # noqa: E402
from supervisor.embedded_postgres import EmbeddedPostgres  # noqa: E402

DATA = Path(os.environ.get("MARUNTIME_SHARED_DATA", ROOT / "../shared/data")).resolve()
TOP = 10
BASELINES = """\
  baseline BM25                        44.6   66.3   73.1   60.4
  baseline hashed character n-grams    44.8   64.6   72.2   59.8
  baseline MiniLM                      54.8   75.5   82.5   70.4
  baseline RRF(BM25 + MiniLM)          54.2   75.9   81.3   70.1"""
RUSSIAN_BASELINES = """\
  baseline BM25 + stemming             68.3
  baseline character n-grams           66.1
  baseline MiniLM                      47.5"""


@dataclass(frozen=True)
class Query:
    """A request and the tools that answer it."""

    text: str
    relevant: frozenset[str]
    kind: str

    @property
    def is_dev(self) -> bool:
        """Whether it belongs to the fifth that constants may be chosen on."""
        return hashlib.sha256(self.text.encode()).digest()[0] % 5 == 0


@dataclass(frozen=True)
class Suite:
    """Documents with requests."""

    documents: list[ToolDocument]
    queries: list[Query]


def _lines(name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (DATA / name).read_text(encoding="utf-8").splitlines()]


def toole() -> Suite:
    """Names and descriptions of ToolE, nothing else."""
    tools = _lines("tool_retrieval/toole/tools.jsonl")
    return Suite(
        [ToolDocument(tool["id"], tool["name"], tool["description"]) for tool in tools],
        [
            Query(row["query"], frozenset(row["relevant"]), row["kind"])
            for row in _lines("tool_retrieval/toole/queries.jsonl")
        ],
    )


def commands(language: str) -> Suite:
    """Intents with their English description, and examples of the language as example requests."""
    examples: dict[str, list[str]] = {}
    for row in _lines(f"russian/ohf_intents/{language}_examples.jsonl"):
        examples.setdefault(row["intent"], []).append(row["query"])
    return Suite(
        [
            ToolDocument(tool["id"], tool["name"], tool["description"], examples=tuple(examples.get(tool["id"], ())))
            for tool in _lines("russian/ohf_intents/tools.jsonl")
        ],
        [
            Query(row["query"], frozenset({row["intent"]}), "single")
            for row in _lines(f"russian/ohf_intents/{language}_test.jsonl")
        ],
    )


@asynccontextmanager
async def _databases() -> AsyncIterator[EmbeddedPostgres]:
    with tempfile.TemporaryDirectory(prefix="maruntime-bench-") as folder:
        server = EmbeddedPostgres(Path(folder) / "data")
        await server.start()
        try:
            yield server
        finally:
            await server.stop()


@asynccontextmanager
async def _pool(server: EmbeddedPostgres, name: str) -> AsyncIterator["asyncpg.Pool[Any]"]:
    await server.create_database(name)
    await schema.upgrade(server.url(name))
    async with opened_pool(server.url(name), DatabaseSettings()) as pool:
        yield pool


class Scores:
    """Recall at 1, 5 and 10, and nDCG at 10, in percent."""

    def __init__(self) -> None:
        self._rows: list[tuple[float, ...]] = []

    def add(self, found: Sequence[str], relevant: frozenset[str]) -> None:
        """Take one answer."""
        gain = sum(1 / math.log2(place + 2) for place, tool in enumerate(found[:10]) if tool in relevant)
        ideal = sum(1 / math.log2(place + 2) for place in range(min(10, len(relevant))))
        recalls = (len(relevant.intersection(found[:k])) / len(relevant) for k in (1, 5, 10))
        self._rows.append((*recalls, gain / ideal))

    def means(self) -> list[float]:
        """R@1, R@5, R@10, nDCG@10."""
        return [100 * statistics.fmean(column) for column in zip(*self._rows, strict=True)]


async def _measured(search: ToolSearch, queries: Iterable[Query]) -> dict[str, list[float]]:
    scores: dict[str, Scores] = {}
    for query in queries:
        found = [hit.version_id for hit in await search.search(split_into_parts(query.text), None, TOP)]
        for group in ("all", "dev" if query.is_dev else "held out", query.kind):
            scores.setdefault(group, Scores()).add(found, query.relevant)
    return {group: of_group.means() for group, of_group in scores.items()}


class _Prepared:
    """A provider whose vectors were made beforehand, in batches of equal lengths: the same numbers, sooner."""

    def __init__(self, inner: EmbeddingProvider, vectors: dict[str, list[float]]) -> None:
        self.name, self.dimension, self.scripts = inner.name, inner.dimension, inner.scripts
        self._inner = inner
        self._vectors = vectors

    @classmethod
    async def of(cls, inner: EmbeddingProvider, suite: Suite) -> EmbeddingProvider:
        """A provider that knows the parts of a suite's requests."""
        if isinstance(inner, HashedEmbedding):
            return inner
        parts = {part for query in suite.queries for part in split_into_parts(query.text)}
        texts = sorted((part for part in parts if script_of(part) in inner.scripts), key=len)
        return cls(inner, dict(zip(texts, await inner.encode(texts), strict=True)))

    async def encode(self, texts: Sequence[str]) -> list[list[float]]:
        """Give what was prepared, and make the rest."""
        missing = [text for text in dict.fromkeys(texts) if text not in self._vectors]
        self._vectors.update(zip(missing, await self._inner.encode(missing), strict=True))
        return [self._vectors[text] for text in texts]


def _embedders(only: str | None) -> list[EmbeddingProvider]:
    embedders: list[EmbeddingProvider] = [] if only == "minilm" else [HashedEmbedding()]
    if only == "built-in":
        return embedders
    try:
        embedders.append(MiniLMEmbedding())
    except EmbedderMissing as exc:
        print(f"!! MiniLM IS NOT MEASURED: {exc}", file=sys.stderr)
    return embedders


async def quality(server: EmbeddedPostgres, embedders: Sequence[EmbeddingProvider]) -> None:
    """The tables of quality."""
    print(f"\nToolE, 199 tools           queries     R@1    R@5   R@10   nDCG@10\n{BASELINES}")
    for number, embedder in enumerate(embedders):
        suite = toole()
        prepared = await _Prepared.of(embedder, suite)
        async with _pool(server, f"toole_{number}") as pool:
            await ToolIndex(pool, [prepared]).put(suite.documents)
            measured = await _measured(ToolSearch(pool, [prepared]), suite.queries)
        for group in ("all", "held out", "dev", "single", "multi"):
            values = "".join(f"{value:7.1f}" for value in measured[group])
            print(f"  {embedder.name:24} {group:10}{values}", flush=True)
    for language in ("ru", "en"):
        print(f"\nCommands ({language}), 30 intents  accuracy@1")
        print(RUSSIAN_BASELINES if language == "ru" else "  (no baseline)")
        for number, embedder in enumerate(embedders):
            suite = commands(language)
            prepared = await _Prepared.of(embedder, suite)
            async with _pool(server, f"{language}_{number}") as pool:
                await ToolIndex(pool, [prepared]).put(suite.documents)
                measured = await _measured(ToolSearch(pool, [prepared]), suite.queries)
            for group in ("all", "held out", "dev"):
                print(f"  {embedder.name:24} {group:10}{measured[group][0]:7.1f}", flush=True)


def _many(count: int) -> list[ToolDocument]:
    """As many tools as asked: those of ToolE, then others with words of two of them (seeded)."""
    chance = random.Random(20261121)
    real = toole().documents
    documents = real[:count]
    while len(documents) < count:
        one, other = chance.sample(real, 2)
        words = one.description.split() + other.description.split()
        chance.shuffle(words)
        number = len(documents)
        name = f"{one.name}_{other.name}_{number}"
        documents.append(ToolDocument(f"made-{number}", name, " ".join(words[: chance.randint(8, 40)])))
    return documents


async def latency(server: EmbeddedPostgres, embedder: EmbeddingProvider, searches: int) -> None:
    """The times of whole searches, one after another, none seen before (the cache of vectors never helps).

    `cpu` is what this process spent, which other programs of the machine hardly change.
    """
    print(f"\nLatency, {embedder.name}: {searches} searches one after another, ms")
    print("  tools      p50    p95    p99    max   cpu p95   parts   first search   put of one, then search")
    texts = [query.text for query in toole().queries]
    random.Random(7).shuffle(texts)
    for count in (200, 10_000):
        async with _pool(server, f"latency_{count}") as pool:
            index, search = ToolIndex(pool, [embedder]), ToolSearch(pool, [embedder])
            await index.put(_many(count))
            started = time.perf_counter()
            await search.search(["warm up"])
            first = time.perf_counter() - started
            gc.collect()
            times: list[float] = []
            busy: list[float] = []
            parts: list[int] = []
            for text in texts[:searches]:
                asked = split_into_parts(text)
                started, worked = time.perf_counter(), time.process_time()
                await search.search(asked, None, TOP)
                times.append(1000 * (time.perf_counter() - started))
                busy.append(1000 * (time.process_time() - worked))
                parts.append(len(asked))
            started = time.perf_counter()
            await index.put([ToolDocument("fresh", "zebra_counter", "Counts zebras from a balloon.")])
            found = await search.search(["count the zebras from a balloon"])
            fresh = time.perf_counter() - started
            assert found[0].version_id == "fresh"
        p50, p95, p99 = (_quantile(times, share) for share in (0.5, 0.95, 0.99))
        print(
            f"  {count:6}{p50:8.1f}{p95:7.1f}{p99:7.1f}{max(times):7.1f}{_quantile(busy, 0.95):10.1f}"
            f"{statistics.fmean(parts):8.2f}"
            f"{1000 * first:15.0f}{1000 * fresh:26.0f}"
        )


def _quantile(values: Sequence[float], share: float) -> float:
    return sorted(values)[min(len(values) - 1, int(len(values) * share))]


async def tune(server: EmbeddedPostgres, embedders: Sequence[EmbeddingProvider]) -> None:
    """The grid, on dev queries alone: one constant after another, ToolE and both languages side by side."""
    suites = {"toole": toole(), "ru": commands("ru"), "en": commands("en")}
    base = Ranking()
    grid: list[Ranking] = [base]
    grid += [replace(base, bm25=BM25(k1, b)) for k1, b in itertools.product((0.9, 1.2, 1.5, 2.0), (0.5, 0.75, 0.9))]
    grid += [replace(base, heading=heading) for heading in (1.0, 2.0, 3.0)]
    grid += [
        replace(base, shortest_ngram=low, longest_ngram=high) for low, high in ((3, 3), (3, 4), (3, 5), (4, 4), (4, 5))
    ]
    grid += [replace(base, rrf_k=k) for k in (2.0, 5.0, 10.0, 20.0, 60.0)]
    grid += [
        replace(base, ngrams=ngrams, spelling_vector=vector)
        for ngrams, vector in itertools.product((0.25, 0.5, 0.75, 1.0), (0.0, 0.15, 0.3, 0.5))
    ]
    grid += [replace(base, meaning_vector=vector) for vector in (1.0, 1.5, 2.0, 3.0)]
    for number, embedder in enumerate(embedders):
        print(f"\n{embedder.name}: dev queries; ToolE R@1 R@5 R@10 nDCG, ru @1, en @1")
        for name in suites:
            async with _pool(server, f"tune_{name}_{number}") as pool:
                await ToolIndex(pool, [embedder]).put(suites[name].documents)
        for ranking in dict.fromkeys(grid):
            row: list[float] = []
            for name, suite in suites.items():
                async with opened_pool(server.url(f"tune_{name}_{number}"), DatabaseSettings()) as pool:
                    dev = [query for query in suite.queries if query.is_dev]
                    means = (await _measured(ToolSearch(pool, [embedder], ranking), dev))["dev"]
                    row += means if name == "toole" else means[:1]
            changed = [
                f"{key}={getattr(ranking, key)}"
                for key in base.__dataclass_fields__
                if getattr(ranking, key) != getattr(base, key)
            ]
            print("".join(f"{value:7.1f}" for value in row), " ".join(changed) or "(as shipped)", flush=True)


async def _main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--tune", action="store_true", help="print the grid on dev queries and stop")
    arguments.add_argument("--only", choices=("quality", "latency"), help="one of the two")
    arguments.add_argument("--embedder", choices=("built-in", "minilm"), help="one of the two")
    arguments.add_argument("--searches", type=int, default=500, help="for the latency")
    said = arguments.parse_args()
    if not DATA.is_dir():
        sys.exit(f"The public data is absent: set MARUNTIME_SHARED_DATA ({DATA})")
    embedders = _embedders(said.embedder)
    async with _databases() as server:
        if said.tune:
            await tune(server, embedders)
            return
        if said.only != "latency":
            await quality(server, embedders)
        if said.only != "quality":
            await latency(server, embedders[0], said.searches)


if __name__ == "__main__":
    asyncio.run(_main())
