import base64
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_worker.tools.secrets import NamedSecrets, SecretMissing

VALUE = 'sk/live+"42\\ ü=x'
SECRETS = NamedSecrets({"crm": VALUE, "other": "12345678"})


def test_secrets_come_from_the_environment_and_from_files(tmp_path):
    (tmp_path / "crm").write_text("from-a-file\n")
    (tmp_path / "..data").mkdir()
    (tmp_path / ".hidden").write_text("not-a-secret")

    secrets = NamedSecrets.load(
        {"MARUNTIME_SECRET__BRAVE": "from-the-env", "OTHER": "x", "MARUNTIME_SECRET__NO": ""}, tmp_path
    )

    assert secrets.names == {"crm", "brave"}
    assert secrets.fill("a ${secret:crm} b ${secret:brave}") == "a from-a-file b from-the-env"


@pytest.mark.parametrize(
    "environ",
    [
        {"MARUNTIME_SECRET__CRM": "short"},
        {"MARUNTIME_SECRET__CRM": "line one\r\nX-Admin: 1"},
        {"MARUNTIME_SECRET__9": "long-enough"},
        {"MARUNTIME_SECRET__A-B": "long-enough"},
        {"MARUNTIME_SECRET__CRM": "x" * 20_000},
    ],
)
def test_what_cannot_be_a_secret_is_refused_and_not_quoted(environ):
    with pytest.raises(ValueError, match="secret") as caught:
        NamedSecrets.load(environ)

    (value,) = environ.values()
    assert value not in str(caught.value)


def test_a_name_that_is_given_twice_is_refused(tmp_path):
    (tmp_path / "crm").write_text("from-a-file")

    with pytest.raises(ValueError, match="given twice"):
        NamedSecrets.load({"MARUNTIME_SECRET__CRM": "from-the-env"}, tmp_path)


def test_a_secret_that_is_not_here_is_told_by_name():
    with pytest.raises(SecretMissing, match="no secret 'erp'"):
        SECRETS.fill("Bearer ${secret:erp}")


def test_nothing_shows_a_value():
    assert repr(SECRETS) == "NamedSecrets(crm, other)"


@pytest.mark.parametrize(
    "form",
    [
        VALUE,
        quote(VALUE),
        quote(VALUE, safe=""),
        VALUE.replace("\\", "\\\\").replace('"', '\\"'),
        base64.b64encode(VALUE.encode()).decode().rstrip("="),
        base64.urlsafe_b64encode(VALUE.encode()).decode().rstrip("="),
    ],
)
def test_a_value_is_taken_out_in_every_usual_form(form):
    assert SECRETS.redact(f"a{form}b 12345678") == "a[secret:crm]b [secret:other]"


def test_the_beginning_of_a_value_at_a_cut_goes_too():
    assert SECRETS.redact("key: " + VALUE[:9], is_cut=True) == "key: [secret:crm]"
    assert SECRETS.redact("key: " + VALUE[:9]) == "key: " + VALUE[:9]
    assert SECRETS.redact("key: sk/", is_cut=True) == "key: sk/"


def test_without_secrets_nothing_changes():
    assert NamedSecrets({}).redact("anything", is_cut=True) == "anything"


@given(
    before=st.text(),
    after=st.text(),
    value=st.text(alphabet=st.characters(min_codepoint=33, max_codepoint=126), min_size=8),
)
def test_no_value_survives(before, after, value):
    redacted = NamedSecrets({"s": value}).redact(before + value + after)

    assert "[secret:s]" in redacted
    assert (
        value not in redacted
        or value in "[secret:s]" * 2
        or value in before + after
        or value in (before + "[secret:s]" + after)
    )


@given(user=st.text(alphabet="abc", max_size=5), value=st.text(min_size=12, max_size=20, alphabet="ABCxyz0189"))
def test_a_password_of_basic_authentication_does_not_survive(user, value):
    sent = base64.b64encode(f"{user}:{value}".encode()).decode()

    redacted = NamedSecrets({"s": value}).redact(f"Basic {sent}")

    assert "[secret:s]" in redacted
    assert len(redacted.replace("Basic ", "").replace("[secret:s]", "")) <= len(user) * 4 // 3 + 8
