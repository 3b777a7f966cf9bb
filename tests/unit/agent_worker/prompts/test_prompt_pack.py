from datetime import UTC, datetime
from pathlib import Path

import pytest

from agent_worker.prompts.prompt_pack import PromptPackUnknown, system_prompt
from maruntime.testing.builders import a_tool

NOW = datetime(2026, 3, 4, 23, 59, tzinfo=UTC)


def test_the_prompt_names_the_date_and_the_offered_tools_only():
    prompt = system_prompt("assistant", [a_tool("look"), a_tool("pay", description="Pays $5 ${date}.")], NOW)

    assert prompt == (
        "You are an assistant that works in steps. In each step you choose one or more of the tools below; "
        "your work ends when you call final_answer.\n"
        "\n"
        "Today is 2026-03-04.\n"
        "\n"
        "Tools of this step:\n"
        "- look: Looks.\n"
        "- pay: Pays $5 ${date}.\n"
        "\n"
        "Rules:\n"
        "- Answer in the language of the user's latest message.\n"
        "- Ask for a clarification only when the request cannot be understood without it.\n"
        "- State nothing as a fact that you neither know nor found out.\n"
        "- Put everything that the user should read into the answer of final_answer.\n"
    )


@pytest.mark.parametrize("pack", ["nobody", "", ".", "..", "assistant/system.txt"])
def test_an_unknown_pack_is_an_error_with_a_code(pack):
    with pytest.raises(PromptPackUnknown) as caught:
        system_prompt(pack, [], NOW)

    assert caught.value.code == "prompt_pack_unknown"


def test_a_pack_outside_the_folder_is_refused(tmp_path: Path):
    (tmp_path / "system.txt").write_text("secret")

    for pack in (str(tmp_path), "../" * 20 + str(tmp_path).lstrip("/")):
        with pytest.raises(PromptPackUnknown):
            system_prompt(pack, [], NOW)
