"""Finding tools, through the stored index (requirement R05: retrieval of tools)."""

import asyncio
from collections.abc import Sequence
from typing import Any

import asyncpg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from orchestrator.retrieval.documents import ToolDocument
from orchestrator.retrieval.embedding import EmbeddingUnavailable
from orchestrator.retrieval.hashed import HashedEmbedding
from orchestrator.retrieval.index import ToolIndex
from orchestrator.retrieval.ranking import Leg, Ranking
from orchestrator.retrieval.search import ToolSearch
from orchestrator.retrieval.text import Script, split_into_parts

TOOLS = [
    ToolDocument("v_weather", "get_weather", "Forecast of temperature and rain for a city."),
    ToolDocument("v_mail", "send_mail", "Send an e-mail to a person.", aliases=("mailer",)),
    ToolDocument("v_trains", "trainTimetable", "Departures of trains between two stations."),
    ToolDocument(
        "v_lights",
        "switch_lights",
        "Switches lamps.",
        examples=("включи свет на кухне", "выключи лампу в спальне", "make it dark in here"),
    ),
    ToolDocument("v_timer", "cancel_timer", "Stops a timer.", examples=("отмени таймер", "останови все таймеры")),
]


@pytest.fixture(autouse=True)
async def _filled(index: ToolIndex) -> None:
    await index.put(TOOLS)


async def _first(search: ToolSearch, *texts: str) -> str:
    found = await search.search(split_into_parts(*texts))
    return found[0].version_id


@pytest.mark.parametrize(
    ("request_", "wanted"),
    [
        ("Will it rain in Berlin tomorrow?", "v_weather"),
        ("When does the next train to Basel depart?", "v_trains"),
        ("please make it dark", "v_lights"),
        ("выключите лампы в спальнях", "v_lights"),
        ("Остановите таймер!", "v_timer"),
        ("use the mailer", "v_mail"),
        ("forcast of temperatur", "v_weather"),
        ("ТАЙМЕРЫ", "v_timer"),
    ],
)
async def test_a_request_finds_its_tool_in_either_language(search: ToolSearch, request_: str, wanted: str) -> None:
    assert await _first(search, request_) == wanted


async def test_the_next_step_finds_what_the_task_does_not_name(search: ToolSearch) -> None:
    found = await search.search(split_into_parts("Prepare my trip to Basel", "write an e-mail to the hotel"), None, 2)

    assert "v_mail" in [candidate.version_id for candidate in found]


async def test_a_candidate_says_how_each_leg_saw_it(search: ToolSearch) -> None:
    (best,) = await search.search(["temperature forecast for a city"], None, 1)

    assert best.version_id == "v_weather"
    assert dict(best.ranks) == {Leg.LEXICAL: 1, Leg.NGRAMS: 1, Leg.VECTOR: 1}
    assert best.cosine is not None
    assert 0.3 < best.cosine <= 1.0


async def test_only_allowed_versions_are_found(search: ToolSearch) -> None:
    found = await search.search(["weather forecast, mail, trains"], {"v_mail", "v_gone"})

    assert [candidate.version_id for candidate in found] == ["v_mail"]
    assert found[0].ranks[Leg.LEXICAL] == 1
    assert await search.search(["weather"], set()) == []


async def test_nothing_asked_finds_nothing(search: ToolSearch) -> None:
    assert await search.search([]) == []
    assert await search.search(["...", " "]) == []
    assert await search.search(["weather"], None, 0) == []


@pytest.mark.parametrize(
    "text", ["\x00weather", "weather' or 1=1 --", "a & b | !c:*", "%s $1 {}", "🌦" * 2000, "\ud800"]
)
async def test_any_text_can_be_asked(search: ToolSearch, text: str) -> None:
    await search.search(split_into_parts(text))


async def test_a_request_that_is_near_to_nothing_is_refused_by_its_cosine(
    pool: "asyncpg.Pool[Any]", embedder: HashedEmbedding
) -> None:
    picky = ToolSearch(pool, [embedder], Ranking(min_cosine=0.25))

    assert await picky.search(["Who painted the ceiling of that chapel?"]) == []
    assert await picky.search(["temperature forecast for a city"])


async def test_a_new_tool_is_found_by_the_next_search_of_every_process(
    pool: "asyncpg.Pool[Any]", index: ToolIndex, search: ToolSearch, embedder: HashedEmbedding
) -> None:
    elsewhere = ToolSearch(pool, [embedder])
    await _first(search, "count zebras")
    await _first(elsewhere, "count zebras")

    await index.put([ToolDocument("v_zebra", "zebra_counter", "Counts zebras.")])

    assert [await _first(search, "count zebras"), await _first(elsewhere, "count zebras")] == ["v_zebra", "v_zebra"]


async def test_a_replaced_text_is_forgotten(index: ToolIndex, search: ToolSearch) -> None:
    await index.put([ToolDocument("v_weather", "tides", "High water at sea.")])

    assert await _first(search, "when is high water at the sea") == "v_weather"
    assert "v_weather" not in [
        hit.version_id for hit in await search.search(["rain forecast"]) if Leg.LEXICAL in hit.ranks
    ]


async def test_a_removed_tool_is_not_found(index: ToolIndex, search: ToolSearch) -> None:
    await _first(search, "rain")

    await index.remove(["v_weather", "v_never_there"])

    assert "v_weather" not in [candidate.version_id for candidate in await search.search(["rain in the city"])]


async def test_an_empty_index_finds_nothing(index: ToolIndex, search: ToolSearch) -> None:
    await index.remove([tool.version_id for tool in TOOLS])

    assert await search.search(["rain"]) == []


class _LatinOnly(HashedEmbedding):
    scripts = frozenset({Script.LATIN})

    def __init__(self) -> None:
        super().__init__(64)
        self.name = "latin-only"


async def test_an_embedder_has_no_say_in_a_script_it_does_not_declare(pool: "asyncpg.Pool[Any]") -> None:
    await pool.execute("delete from tool_search_models")
    latin = _LatinOnly()
    await ToolIndex(pool, [latin]).put(TOOLS)
    search = ToolSearch(pool, [latin])

    russian = await search.search(["отмени таймер"])
    english = await search.search(["cancel the timer"])

    assert russian[0].version_id == "v_timer"
    assert all(hit.cosine is None and Leg.VECTOR not in hit.ranks for hit in russian)
    assert english[0].ranks[Leg.VECTOR] == 1


class _Silent(HashedEmbedding):
    """A provider that stops answering."""

    def __init__(self) -> None:
        super().__init__(64)
        self.name = "silent"
        self.is_silent = True

    async def encode(self, texts: Sequence[str]) -> list[list[float]]:
        if self.is_silent:
            raise EmbeddingUnavailable
        return await super().encode(texts)


async def test_a_provider_that_is_away_stops_neither_a_put_nor_a_search(pool: "asyncpg.Pool[Any]") -> None:
    await pool.execute("delete from tool_search_models")
    silent = _Silent()
    index, search = ToolIndex(pool, [silent]), ToolSearch(pool, [silent])
    await index.put(TOOLS)

    found = await search.search(["rain forecast"])

    assert found[0].version_id == "v_weather"
    assert found[0].cosine is None

    silent.is_silent = False
    await index.reindex("silent")

    assert (await search.search(["rain forecast"]))[0].cosine is not None


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.permutations(TOOLS), st.permutations(["rain in the city", "выключи свет", "send an e-mail", "zzz"]))
async def test_the_order_of_documents_parts_and_allowed_changes_nothing(
    pool: "asyncpg.Pool[Any]", index: ToolIndex, search: ToolSearch, tools: list[ToolDocument], parts: list[str]
) -> None:
    expected = await search.search(["rain in the city", "выключи свет", "send an e-mail", "zzz"])

    await index.put(tools)
    fresh = ToolSearch(pool, [HashedEmbedding()])

    assert await fresh.search(parts, [tool.version_id for tool in tools]) == expected
    assert await search.search(parts) == expected


async def test_searches_at_once_read_the_index_once_and_agree(search: ToolSearch) -> None:
    answers = await asyncio.gather(*(search.search(["rain in the city"]) for _ in range(8)))

    assert all(answer == answers[0] for answer in answers)


async def test_the_needed_tool_is_found_among_two_thousand(index: ToolIndex, search: ToolSearch) -> None:
    """Small scale: exactness does not depend on the size."""
    words = ["report", "invoice", "ticket", "order", "user", "server", "branch", "photo", "route", "budget"]
    await index.put(
        ToolDocument(f"made_{n}", f"{words[n % 10]}_{n}", f"Handles {words[n % 10]} and {words[n // 10 % 10]} of {n}.")
        for n in range(2000)
    )

    assert await _first(search, "Will it rain in Berlin?") == "v_weather"
    assert await _first(search, "отмени таймер") == "v_timer"
    assert await _first(search, "handle 1234") == "made_1234"
