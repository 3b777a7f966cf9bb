"""What judges the bodies that the gateway writes."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

CHECKOUT = Path(__file__).parents[4]
SHARED_DATA = Path(os.environ.get("MARUNTIME_SHARED_DATA") or CHECKOUT.parent / "shared" / "data")


@pytest.fixture(scope="session")
def judged() -> Callable[[bytes, str], Any]:
    """Decode a body and hold it against one of OpenAI's JSON Schemas."""
    folder = SHARED_DATA / "openai_schemas"
    if not folder.is_dir():
        pytest.skip(f"OpenAI's JSON Schemas are NOT CHECKED: no folder {folder}; set MARUNTIME_SHARED_DATA")

    def judge(body: bytes, schema: str) -> Any:
        value = json.loads(body)
        Draft202012Validator(json.loads((folder / f"{schema}.json").read_text())).validate(value)
        return value

    return judge
