from agent_worker.tools.plans import adapt_plan, generate_plan
from tests.integration.agent_worker.tools.tool_calls import a_context


async def test_a_plan_is_read_by_the_next_step():
    result = await generate_plan(
        {
            "reasoning": "r",
            "research_goal": " Rain in Oslo ",
            "planned_steps": ["Search", "Compare"],
            "search_strategies": ["By year"],
        },
        a_context(),
    )

    assert result.text == "Plan for: Rain in Oslo\n\n1. Search\n2. Compare\n\nHow to search:\n- By year"


async def test_a_plan_may_do_without_searches():
    result = await generate_plan({"reasoning": "r", "research_goal": "g", "planned_steps": ["a"]}, a_context())

    assert result.text == "Plan for: g\n\n1. a"


async def test_a_changed_plan_tells_what_changed():
    result = await adapt_plan(
        {
            "reasoning": "r",
            "original_goal": "Rain",
            "new_goal": "Snow",
            "plan_changes": ["No rain data"],
            "next_steps": ["Search", "Answer"],
        },
        a_context(),
    )

    assert result.text == (
        "The plan has changed. New goal: Snow\n\nGoal before: Rain\n\nChanges:\n- No rain data\n\n"
        "Next steps:\n1. Search\n2. Answer"
    )
