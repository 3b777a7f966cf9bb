import orjson

from agent_worker.tools.arguments import read_arguments
from agent_worker.tools.report import create_report
from agent_worker.tools.shipped import SHIPPED
from tests.integration.agent_worker.tools.tool_calls import a_context
from tests.unit.agent_worker.builders import REPORT, report


async def test_a_report_is_an_artifact_that_its_result_names():
    arguments = read_arguments(REPORT, report(" Rain ", "  one *two*\n\nthree\n").arguments)

    result = await create_report(arguments, a_context())

    (artifact,) = result.artifacts
    assert artifact.id.startswith("art_")
    assert (artifact.name, artifact.media_type) == ("Rain", "text/markdown; charset=utf-8")
    assert artifact.content.decode() == "# Rain\n\none *two*\n\nthree\n\n*Confidence: high*\n"
    assert result.text == f'The report "Rain" (3 words) is stored as artifact {artifact.id}.'
    assert result.error_code is None


async def test_two_reports_are_two_artifacts():
    arguments = orjson.loads(report().arguments)

    first, second = await create_report(arguments, a_context()), await create_report(arguments, a_context())

    assert first.artifacts[0].id != second.artifacts[0].id


def test_the_catalogs_locator_is_installed():
    assert SHIPPED[REPORT.locator] is create_report
