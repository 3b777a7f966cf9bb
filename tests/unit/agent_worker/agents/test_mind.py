"""Which parameters of a call hold: the template's, the client's, or the smaller of both."""

import pytest

from agent_worker.agents.contract import Prompt
from agent_worker.agents.mind import RunMind
from maruntime.domain.template import LLMPolicy
from maruntime.testing.clock import FakeClock
from tests.unit.agent_worker.builders import ScriptedLLM, an_outbox, final, reply


async def sent(policy, client):
    llm = ScriptedLLM(reply(final()))
    mind = RunMind(llm, LLMPolicy(**policy), client, {}, an_outbox(FakeClock()))
    mind.begin_step(1)
    await mind.ask(Prompt((), ()), tool_choice=None)
    (request,) = llm.requests
    return dict(request.parameters)


@pytest.mark.parametrize(
    ("template", "client", "limit"),
    [
        (None, {}, {}),
        (100, {}, {"max_completion_tokens": 100}),
        (None, {"max_completion_tokens": 50}, {"max_completion_tokens": 50}),
        (None, {"max_tokens": 50}, {"max_tokens": 50}),
        (100, {"max_completion_tokens": 50}, {"max_completion_tokens": 50}),
        (100, {"max_completion_tokens": 500}, {"max_completion_tokens": 100}),
        (100, {"max_tokens": 50}, {"max_tokens": 50}),
        (100, {"max_tokens": 500}, {"max_tokens": 100}),
    ],
)
async def test_the_smaller_limit_of_tokens_holds_and_is_said_once_under_the_clients_name(template, client, limit):
    """Providers refuse a request with both names; a client must not lift the template's limit."""
    assert await sent({"max_completion_tokens": template}, client) == limit


@pytest.mark.parametrize(
    ("template", "client", "kept"),
    [(None, {}, {}), (0.0, {}, {"temperature": 0.0}), (0.0, {"temperature": 1}, {"temperature": 1})],
)
async def test_the_clients_temperature_comes_before_the_templates(template, client, kept):
    assert await sent({"temperature": template}, client) == kept


async def test_other_parameters_of_the_client_pass():
    assert await sent({"max_completion_tokens": 9}, {"seed": 1}) == {"seed": 1, "max_completion_tokens": 9}
