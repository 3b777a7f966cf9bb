"""The context of a call, for tests of tools."""

import time
from typing import Any

from agent_worker.tools.contract import ToolContext


def a_context(**changes: Any) -> ToolContext:
    fields: dict[str, Any] = {
        "tenant_id": "acme",
        "principal_id": "key_1",
        "session_id": "sess_1",
        "run_id": "run_1",
        "step_no": 2,
        "call_idx": 1,
        "idempotency_key": "2f1b4ad8-8a5b-5b0e-9d5e-1a2b3c4d5e6f",
        "deadline": time.monotonic() + 60,
    }
    return ToolContext(**fields | changes)
