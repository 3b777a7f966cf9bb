"""What an agent is. A template is a name; a version is immutable, and a session stays on the one it began with."""

from datetime import datetime
from enum import StrEnum

from pydantic import BaseModel, ConfigDict, Field, PositiveInt

from maruntime.domain.rule import Rule


class AgentKind(StrEnum):
    """How an agent thinks."""

    TOOL_CALLING = "tool_calling"
    """One LLM call per step: the model picks the tools."""
    SGR_TOOL_CALLING = "sgr_tool_calling"
    """Two LLM calls per step: a structured reasoning first, then the tools."""
    SGR = "sgr"
    """One LLM call per step: a strict schema holds the reasoning and the tool with its arguments."""
    DIALOG = "dialog"
    """As `sgr_tool_calling`, and `answer` hands the turn back to the user with the work unfinished."""
    TEXT = "text"
    """For models without function calling: free text, read as a tool call."""
    PASSTHROUGH = "passthrough"
    """One LLM call, no tools: the gateway as a proxy."""


class LLMFallback(BaseModel):
    """Where to ask when an endpoint does not work."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    endpoint: str = Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,63}$")
    model: str | None = None


class LLMPolicy(BaseModel):
    """Which model, by the *name* of an endpoint; addresses and keys live in deployment settings."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    endpoint: str = Field(default="main", pattern=r"^[a-z0-9][a-z0-9_-]{0,63}$")
    model: str | None = None
    """Null = the endpoint's own default."""
    temperature: float | None = Field(default=None, ge=0, le=2)
    max_completion_tokens: PositiveInt | None = None
    fallbacks: tuple[LLMFallback, ...] = Field(default=(), max_length=4)
    """Asked in order, each after the retries of the one before."""


class ExecutionLimits(BaseModel):
    """How long an agent may go on. Carried out by rules (`maruntime.rules.limits`), never by an agent."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    max_iterations: PositiveInt = 10
    max_clarifications: int = Field(default=3, ge=0)
    max_searches: int = Field(default=4, ge=0)
    max_invalid_answers: PositiveInt = 3
    """Unusable LLM answers in a row before the run fails."""
    max_seconds: PositiveInt | None = None
    """From the moment the run was accepted, waits included."""
    max_tool_calls: PositiveInt | None = None
    max_llm_calls: PositiveInt | None = None
    max_tokens: PositiveInt | None = None
    """Of all LLM calls of the run together."""
    context_tokens: PositiveInt = 32_000
    """What a prompt may hold, as estimated; older tool results give way first."""


class ToolStrategy(StrEnum):
    """How the tools of a step are chosen among those allowed."""

    ALL = "all"
    SEARCH = "search"


class ToolPolicy(BaseModel):
    """Which tools a step may see beyond the list of the template."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    required: tuple[str, ...] = ()
    """Always in the prompt, whatever the search says."""
    deny: tuple[str, ...] = ()
    strategy: ToolStrategy = ToolStrategy.ALL
    max_tools_in_prompt: PositiveInt = Field(default=20, le=128)


class CapabilityCard(BaseModel):
    """What the agent is good for, so that a request can find it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    tags: tuple[str, ...] = Field(default=(), max_length=32)
    examples: tuple[str, ...] = Field(default=(), max_length=64)
    """Requests, in any language."""


class TemplateBody(BaseModel):
    """Everything that a version of a template says."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: AgentKind
    description: str = Field(min_length=1, max_length=2000)
    prompt_pack: str = Field(default="assistant", pattern=r"^[a-z0-9][a-z0-9_-]{0,63}$")
    system_prompt: str | None = Field(default=None, max_length=64_000)
    """Instead of the pack's: text with `$tools` and `$date`."""
    llm: LLMPolicy = LLMPolicy()
    limits: ExecutionLimits = ExecutionLimits()
    tools: tuple[str, ...] = Field(default=(), max_length=20_000)
    """The tools that the agent may use, by name; `*` allows the whole catalog."""
    tool_policy: ToolPolicy = ToolPolicy()
    rules: tuple[Rule, ...] = Field(default=(), max_length=200)
    card: CapabilityCard = CapabilityCard()


class TemplateVersion(BaseModel):
    """An immutable edition of a template."""

    model_config = ConfigDict(frozen=True)

    id: str
    name: str
    version: PositiveInt
    body: TemplateBody
    created_at: datetime | None = None
