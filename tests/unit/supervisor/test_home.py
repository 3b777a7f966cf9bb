import os
import stat
import subprocess
from pathlib import Path

import pytest

from supervisor.credentials import Credentials
from supervisor.errors import AlreadyRunning
from supervisor.home import Home


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_one_supervisor_holds_a_home_at_a_time(tmp_path: Path) -> None:
    home = Home(tmp_path / "home")

    with home.held() as control:
        holder = Home(tmp_path / "home").holder()
        with pytest.raises(AlreadyRunning, match="already runs"), Home(tmp_path / "home").held():
            pass

    assert holder is not None
    assert (holder.pid, holder.control) == (os.getpid(), control)
    assert home.holder() is None


def test_a_home_that_was_too_open_is_closed(tmp_path: Path) -> None:
    (tmp_path / "home").mkdir(mode=0o755)

    with Home(tmp_path / "home").held():
        assert mode(tmp_path / "home") == 0o700


def test_the_env_file_survives_a_shell(tmp_path: Path) -> None:
    home = Home(tmp_path)
    value = """a 'quoted' "value" with $HOME and `date`"""

    home.write_env({"MARUNTIME_URL": "http://127.0.0.1:8000", "ODD": value})

    told = subprocess.run(
        ["/bin/sh", "-c", '. ./env; printf %s "$ODD"'], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert told.stdout == value
    assert mode(home.env) == 0o600
    assert home.env.read_text().startswith("export MARUNTIME_URL='http://127.0.0.1:8000'\n")


def test_a_log_that_grew_too_long_is_moved_aside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("supervisor.home._LOG_BYTES_KEPT", 10)
    home = Home(tmp_path)
    home.logs.mkdir()
    (home.logs / "worker-1.log").write_text("more than ten bytes")

    path = home.log("worker-1")

    assert not path.exists()
    assert (home.logs / "worker-1.log.1").read_text() == "more than ten bytes"


def test_clearing_leaves_what_is_not_ours(tmp_path: Path) -> None:
    home = Home(tmp_path)
    with home.held():
        home.write_env({})
    (tmp_path / "letters").write_text("mine")

    home.clear()

    assert [path.name for path in tmp_path.iterdir()] == ["letters"]


def test_keys_are_generated_once_and_differ_between_homes(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()

    first = Credentials.of(Home(tmp_path / "one"), {})
    again = Credentials.of(Home(tmp_path / "one"), {})
    other = Credentials.of(Home(tmp_path / "two"), {})

    assert first == again
    assert first.api_key != other.api_key
    assert len({first.api_key, first.admin_key, first.internal_key, first.join_token}) == 4
    assert mode(tmp_path / "one" / "secrets") == 0o600
    assert first.api_key not in repr(first)


def test_a_key_that_the_user_named_is_used_and_not_stored(tmp_path: Path) -> None:
    credentials = Credentials.of(Home(tmp_path), {"ADMIN_API_KEY": "named"})

    assert credentials.admin_key == "named"
    assert "named" not in (tmp_path / "secrets").read_text()
