"""What an agent is. A template is a name; a version is immutable, and a session stays on the one it began with."""

from datetime import datetime
from enum import StrEnum

from pydantic import BaseModel, ConfigDict, Field, PositiveInt


class AgentKind(StrEnum):
    """How an agent thinks."""

    TOOL_CALLING = "tool_calling"
    """One LLM call per step: the model picks the tools."""
    SGR_TOOL_CALLING = "sgr_tool_calling"
    """Two LLM calls per step: a structured reasoning first, then the tools."""


class LLMPolicy(BaseModel):
    """Which model, by the *name* of an endpoint; addresses and keys live in deployment settings."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    endpoint: str = "main"
    model: str | None = None
    """Null = the endpoint's own default."""
    temperature: float | None = Field(default=None, ge=0, le=2)
    max_completion_tokens: PositiveInt | None = None


class ExecutionLimits(BaseModel):
    """How long an agent may go on."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    max_iterations: PositiveInt = 10
    max_clarifications: int = Field(default=3, ge=0)
    max_invalid_answers: PositiveInt = 3
    """Unusable LLM answers in a row before the run fails."""


class TemplateBody(BaseModel):
    """Everything that a version of a template says."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: AgentKind
    description: str
    prompt_pack: str
    llm: LLMPolicy = LLMPolicy()
    limits: ExecutionLimits = ExecutionLimits()
    tools: tuple[str, ...]


class TemplateVersion(BaseModel):
    """An immutable edition of a template."""

    model_config = ConfigDict(frozen=True)

    id: str
    name: str
    version: PositiveInt
    body: TemplateBody
    created_at: datetime | None = None
