"""How a call to a model can end badly.

Messages are safe to show: no key, no address. What only an operator should see
is in `reason`, which goes to the log.
"""

from maruntime.errors import MaruntimeError


class LLMError(MaruntimeError):
    """The model did not answer."""

    code = "llm_error"

    def __init__(
        self,
        message: str | None = None,
        *,
        reason: str = "",
        retry_after: float | None = None,
        **details: str | int,
    ) -> None:
        super().__init__(message, **details)
        self.reason = reason
        self.retry_after = retry_after


class UnknownEndpoint(LLMError):
    """No such model endpoint is configured."""

    code = "llm_endpoint_unknown"


class LLMUnavailable(LLMError):
    """The model's endpoint is not reachable or failed."""

    code = "llm_unavailable"
    retryable = True


class LLMRateLimited(LLMError):
    """The model's endpoint takes no more requests just now."""

    code = "llm_rate_limited"
    retryable = True


class LLMRefused(LLMError):
    """The model's endpoint refused the request."""

    code = "llm_refused"


class LLMMalformed(LLMError):
    """The model's answer was cut off or cannot be read."""

    code = "llm_malformed"
    retryable = True


class LLMTimeout(LLMError):
    """The model did not finish in time."""

    code = "llm_timeout"


class LLMStalled(LLMTimeout):
    """The model fell silent."""

    retryable = True
