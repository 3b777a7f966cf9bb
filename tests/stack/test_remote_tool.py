"""A tool that is posted while the system runs is called over HTTP by the next run."""

from tests.stack.conftest import Platform, final_answer, tool_call


async def test_a_tool_that_was_just_posted_is_called_and_its_result_is_read(
    platform: Platform, scripted_llm: tuple[object, str]
) -> None:
    health = scripted_llm[1].replace("/llm/v1", "/health")
    async with platform.http(platform.admin_key) as admin:
        made = await admin.post(
            "/admin/tools",
            json={
                "name": "ask_health",
                "description": "Ask a server how it is.",
                "kind": "remote",
                "effect_class": "pure",
                "remote": {"method": "GET", "url": health},
                "parameters": {"type": "object", "properties": {}, "additionalProperties": False},
            },
        )
        template = await admin.post(
            "/admin/templates",
            json={
                "name": "doctor",
                "kind": "tool_calling",
                "description": "Asks servers how they are.",
                "tools": ["ask_health", "calculator", "final_answer"],
            },
        )
    turns = (tool_call("ask_health"), tool_call("calculator", expression="6 * 7"), final_answer("It is well."))
    with platform.script(*turns) as (case, script):
        reply = await platform.client(case=case).chat.completions.create(
            model="doctor", messages=[{"role": "user", "content": "How is it?"}]
        )

    assert (made.status_code, template.status_code) == (201, 201), (made.text, template.text)
    assert reply.choices[0].message.content == "It is well."
    assert '"status"' in script.requests[1].messages[-1]["content"]
    assert "42" in script.requests[2].messages[-1]["content"]
