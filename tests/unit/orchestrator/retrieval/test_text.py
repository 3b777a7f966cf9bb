"""One form for documents and queries; what is searched for."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.retrieval.text import Script, normalised, script_of, split_into_parts, text_config


@pytest.mark.parametrize(
    ("text", "form"),
    [
        ("air_quality", "air quality"),
        ("PDFReader", "pdf reader"),
        ("webSearch2Go", "web search2 go"),
        ("НайтиПогоду", "найти погоду"),
        ("Ёлка, ещё!", "елка еще"),
        ("cafe\u0301", "café"),
        ("  ", ""),
    ],
)
def test_a_text_has_one_form(text: str, form: str) -> None:
    assert normalised(text) == form


@given(st.text())
def test_the_form_of_a_form_is_itself_when_in_lower_case(text: str) -> None:
    form = normalised(text)

    assert normalised(form) == form or form != form.lower()


@pytest.mark.parametrize(
    ("text", "script"),
    [
        ("turn the lights off", Script.LATIN),
        ("выключи свет", Script.CYRILLIC),
        ("создай issue в Jira про падение", Script.CYRILLIC),
        ("灯を消して", Script.OTHER),
        ("2026", Script.LATIN),
    ],
)
def test_the_script_is_that_of_most_letters(text: str, script: Script) -> None:
    assert script_of(text) is script


def test_one_cyrillic_letter_chooses_the_config_that_stems_both() -> None:
    assert text_config("create an issue in Jira про") == "maruntime_russian"
    assert text_config("create an issue") == "maruntime_english"


def test_a_request_is_searched_whole_by_sentence_and_by_clause() -> None:
    parts = split_into_parts("What is the weather in Paris? Book a table and send the address to Ann.")

    assert parts == [
        "What is the weather in Paris? Book a table and send the address to Ann.",
        "What is the weather in Paris?",
        "Book a table and send the address to Ann.",
        "Book a table",
        "send the address to Ann.",
    ]


def test_russian_clauses_are_parts_too() -> None:
    assert split_into_parts("Найди рейс в Казань, а также закажи такси")[1:] == ["Найди рейс в Казань", "закажи такси"]


def test_the_next_step_is_searched_beside_the_task() -> None:
    assert split_into_parts("Plan my trip", "Look for flights") == ["Plan my trip", "Look for flights"]


def test_nothing_said_is_nothing_to_search() -> None:
    assert split_into_parts("", " ...") == []


@given(st.lists(st.text(), max_size=3))
def test_there_are_at_most_six_parts_and_no_part_twice(texts: list[str]) -> None:
    forms = [normalised(part) for part in split_into_parts(*texts)]

    assert len(forms) <= 6
    assert len(set(forms)) == len(forms)
    assert all(forms)
