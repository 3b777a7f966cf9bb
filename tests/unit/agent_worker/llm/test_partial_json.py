import json
import time
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_worker.llm.partial_json import StringFieldReader

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["answer", "a", '"', "\\"]), inner),
    max_leaves=8,
)
objects = st.dictionaries(st.sampled_from(["answer", "ANSWER", "a", 'q"', "\\", "", "ключ"]) | st.text(), values)


def read(text: str, field: str = "answer", size: int = 1) -> str:
    reader = StringFieldReader(field)
    return "".join(reader.feed(text[i : i + size]) for i in range(0, len(text), size))


@given(
    value=objects,
    cuts=st.lists(st.integers(0, 400), max_size=12),
    ascii_only=st.booleans(),
    indent=st.sampled_from([None, 0, 2]),
    field=st.sampled_from(["answer", "a", 'q"', "\\", "ключ"]),
)
def test_any_object_in_any_slices_gives_the_value(value, cuts, ascii_only, indent, field):
    text = json.dumps(value, ensure_ascii=ascii_only, indent=indent)
    edges = [0, *sorted(min(cut, len(text)) for cut in cuts), len(text)]
    reader = StringFieldReader(field)

    sliced = "".join(reader.feed(text[a:b]) for a, b in pairwise(edges))

    wanted = value.get(field)
    assert sliced == (wanted if isinstance(wanted, str) else "")
    assert read(text, field) == sliced
    assert reader.done


@given(st.text() | st.text(alphabet='{}[]":,\\u0d8ce ans'))
def test_what_is_no_json_does_no_harm(text):
    assert isinstance(read(text), str)
    assert isinstance(read('{"answer":"' + text), str)


@given(st.text(), st.integers(1, 5))
def test_characters_come_as_soon_as_they_are_known(answer, size):
    reader = StringFieldReader("answer")
    reader.feed('{"answer":"')

    for char in answer:
        assert reader.feed(json.dumps(char)[1:-1]) == char
    assert not reader.done
    assert reader.feed('"') == ""
    assert reader.done


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ('{"x": {"answer": "no"}, "y": [{"answer": "no"}, "answer"], "answer": "yes"}', "yes"),
        ('{"answer": "first", "answer": "second"}', "first"),
        ('{"answer": 5, "answer": "text"}', "text"),
        ('{"answer": null, "b": 1}', ""),
        ('{"x": "answer", "answer": "yes"}', "yes"),
        ('{"x": "}\\"{", "answer": "yes"}', "yes"),
        ('{"\\u0061nswer": "yes"}', "yes"),
        (r'{"answer": "\ud83d\ude00 \" \\ \/ \b\f\n\r\t"}', '😀 " \\ / \b\f\n\r\t'),
        (r'{"answer": "\ud83d!"}', "\ufffd!"),
        (r'{"answer": "\ude00\ud83d\n"}', "\ufffd\ufffd\n"),
        (r'{"answer": "\ud83d\ud83d\ude00"}', "\ufffd😀"),
        (r'{"answer": "\ud83d"}', "\ufffd"),
        ('{"answer": "raw\nline"}', "raw\nline"),
        ('["answer"]', ""),
        ("{}", ""),
    ],
)
def test_the_top_level_string_is_found(text, wanted):
    assert read(text) == wanted
    assert read(text, size=len(text)) == wanted


def test_nothing_is_read_past_the_field():
    reader = StringFieldReader("answer")

    assert reader.feed('{"answer": "a", "more": "b"}') == "a"
    assert reader.feed('"answer": "c"}') == ""


def test_a_long_string_costs_no_work_per_character():
    text = json.dumps({"skipped": "y" * 2_000_000, "answer": "x" * 2_000_000})
    started = time.process_time()

    assert len(read(text, size=50_000)) == 2_000_000
    assert time.process_time() - started < 0.5
