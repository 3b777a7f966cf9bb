import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[3]
ASK = """
from datetime import datetime
from agent_worker.prompts.prompt_pack import system_prompt
print(system_prompt("assistant", [], datetime(2026, 1, 2)))
"""


def test_a_checkout_behind_a_link_finds_its_packs(tmp_path):
    """What refuses a way out of the folder must not refuse the folder itself."""
    (tmp_path / "link").symlink_to(ROOT)

    done = subprocess.run(
        [sys.executable, "-c", ASK],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path / "link")},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert "Today is 2026-01-02." in done.stdout, done.stderr
