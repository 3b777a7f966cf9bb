"""`wire.md` §1, `model`."""

from typing import Any

import pytest

from maruntime.errors import Invalid, ModelNotFound
from maruntime.ids import new_session_id
from orchestrator.gateway.model_reference import Auto, SessionReference, TemplateName, parse_model


def test_auto_names_the_router() -> None:
    assert parse_model("auto") == Auto()


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("assistant", TemplateName("assistant")),
        ("sgr_assistant@3", TemplateName("sgr_assistant", 3)),
        ("0-x_y", TemplateName("0-x_y")),
        ("a" * 64 + "@999999999", TemplateName("a" * 64, 999_999_999)),
        ("sess", TemplateName("sess")),
        ("automatic", TemplateName("automatic")),
    ],
)
def test_a_name_is_a_template(value: str, expected: TemplateName) -> None:
    assert parse_model(value) == expected


def test_a_session_id_is_a_session() -> None:
    session_id = new_session_id()

    assert parse_model(session_id) == SessionReference(session_id)


@pytest.mark.parametrize(
    "value",
    [
        "sess_",
        "sess_short",
        "sess_01jz0000000000000000000000\n",
        "sess_01jz0000000000000000000000@1",
        "sess_01JZ0000000000000000000000",
        "sess_" + "u" * 26,
        "sess_" + "a" * 10_000_000,
    ],
)
def test_a_malformed_session_id_is_not_found_and_never_a_template(value: str) -> None:
    with pytest.raises(ModelNotFound) as caught:
        parse_model(value)

    assert caught.value.details == {"param": "model"}


@pytest.mark.parametrize(
    "value",
    [
        *["", " ", "Assistant", "gpt-4.1", "_x", "-x", "a" * 65, "a" * 10_000_000, "имя", "a b", "a\n", "a\0"],
        *["a@", "a@0", "a@03", "a@-1", "a@x", "a@1.0", "a@1\n", "a@٣", "a@1@2", "@1", "a@1000000000"],
        " sess_" + "0" * 26,
    ],
)
def test_what_can_be_no_name_is_not_found(value: str) -> None:
    with pytest.raises(ModelNotFound) as caught:
        parse_model(value)

    assert caught.value.details == {"param": "model"}


@pytest.mark.parametrize("value", [None, 1, True, [], {}, b"assistant", "auto@1"])
def test_what_is_no_text_and_a_version_of_the_router_are_invalid(value: Any) -> None:
    with pytest.raises(Invalid) as caught:
        parse_model(value)

    assert caught.value.param == "model"
