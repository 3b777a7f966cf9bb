import pytest
from pydantic import ValidationError

from agent_worker.tools.remote_spec import RemoteSpec, literal_secrets, problems


@pytest.mark.parametrize(
    "url",
    [
        "https://a.example",
        "http://a.example:8080/x/{id}/y?q={query}&fixed=1",
        "https://a.example/{a}{b}",
        "https://[2606:4700::1]/x",
    ],
)
def test_a_template_that_can_be_used(url):
    assert RemoteSpec(url=url).url == url


@pytest.mark.parametrize(
    "url",
    ["", "a.example", "ftp://a.example", "https://", "https://{host}/x", "https://a.{domain}/x", "https://a.example:{port}/",
     "{scheme}://a.example", "https://u:p@a.example/", "https://a.example/{}", "https://a.example/{a b}", "https://a.example/{a",
     "https://a.example/a}", "https://a.example/{{a}}", "https://a.example/{a.b}", "https://a.example/#f", "https://a.example/../x",
     "https://a.example/ x", "https://a.example\\x", "https://a.example/é", "https://a.example:99999/", "https://a.example/\n"],
)  # fmt: skip
def test_a_template_that_cannot_be_used(url):
    with pytest.raises(ValidationError):
        RemoteSpec(url=url)


@pytest.mark.parametrize(
    "fields",
    [
        {"headers": {"Host": "b.example"}},
        {"headers": {"Content-Length": "1"}},
        {"headers": {"traceparent": "x"}},
        {"headers": {"A b": "x"}},
        {"headers": {"X-A": "x\r\nY: z"}},
        {"headers": {"X-A": "é"}},
        {"headers": {"X-A": "1", "x-a": "2"}},
        {"headers": {"X-A": "${env:HOME}"}},
        {"headers": {"X-A": "${secret:CRM}"}},
        {"headers": {"X-A": "${secret:"}},
        {"method": "TRACE"},
        {"method": "GET", "send_arguments": "json"},
        {"response": "text", "result_pointer": "/a"},
        {"result_pointer": "a"},
        {"result_pointer": "/~2"},
        {"max_response_bytes": 0},
        {"max_response_bytes": 2**30},
        {"timeout": "PT0S"},
        {"timeout": "PT2H"},
        {"idempotency_header": "Authorization"},
        {"idempotency_header": "a b"},
        {"unknown": 1},
    ],
)
def test_what_a_spec_may_not_say(fields):
    with pytest.raises(ValidationError):
        RemoteSpec.model_validate({"url": "https://a.example", **fields})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("Authorization", "Bearer ${secret:crm}"),
        ("Authorization", "${secret:crm}"),
        ("X-API-Key", "${secret:crm}"),
        ("Cookie", "${secret:crm}"),
        ("Accept-Language", "ru, en;q=0.8"),
        ("X-Tenant", "acme-corp-north-america-division"),
        ("User-Agent", "Mozilla/5.0 (X11; Linux x86_64)"),
        ("X-Version", "2026-01-31"),
    ],
)
def test_a_named_secret_is_no_problem(name, value):
    assert literal_secrets(RemoteSpec(url="https://a.example", headers={name: value})) == []


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("Authorization", "Bearer abc"),
        ("Authorization", "Basic dXNlcjpwYXNz"),
        ("Authorization", "Bearer ${secret:crm} and-more-1"),
        ("authorization", "hunter2"),
        ("X-API-Key", "42"),
        ("X-Api-Token", "t0k"),
        ("Cookie", "sid=1"),
        ("X-Secret", "x1x"),
        ("X-Anything", "sk-proj-abcdefghijklmnop"),
        ("X-Anything", "ghp_abcdefghijklmnop1234"),
        ("X-Anything", "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.x"),
        ("X-Anything", "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b"),
        ("X-Anything", "Bearer 0123456789"),
    ],
)
def test_a_value_that_looks_like_a_key_is_a_problem(name, value):
    ((path, message),) = literal_secrets(RemoteSpec(url="https://a.example", headers={name: value}))

    assert path == f"$.headers.{name}"
    assert "name it as ${secret:name}" in message
    assert value not in message


@pytest.mark.parametrize(
    "url",
    ["https://a.example/?api_key=1", "https://a.example/?token=x", "https://a.example/?q=sk-proj-abcdefghijklmnop",
     "https://a.example/9f86d081884c7d659a2feaa0c55ad015/x", "https://a.example/?key=AIzaabcdefghijklmnop"],
)  # fmt: skip
def test_a_key_in_the_address_is_a_problem(url):
    assert [path for path, _ in literal_secrets(RemoteSpec(url=url))] == ["$.url"]


@pytest.mark.parametrize("url", ["https://a.example/?key={key}&q=rain&page=1", "https://a.example/v2/customers/{id}"])
def test_an_address_without_a_key_is_none(url):
    assert literal_secrets(RemoteSpec(url=url)) == []


def test_a_placeholder_has_to_be_a_required_argument():
    spec = RemoteSpec(url="https://a.example/{a}/{b}/{c}")
    schema = {"type": "object", "properties": {"a": {}, "b": {}}, "required": ["a"]}

    assert [message.split("}")[0] for _, message in problems(spec, schema)] == [
        "the placeholder {b",
        "the placeholder {c",
    ]
    assert len(problems(spec, {})) == 3
