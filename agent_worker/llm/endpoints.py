"""Where a model is reached and how patient to be with it."""

from datetime import timedelta

from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt, PositiveInt, SecretStr


class LLMEndpoint(BaseModel):
    """One OpenAI-compatible endpoint.

    A server that wants no key still needs some word for `api_key`.
    """

    model_config = ConfigDict(frozen=True)

    base_url: str
    api_key: SecretStr = Field(min_length=1)
    model: str

    connect: timedelta = timedelta(seconds=10)
    first_token: timedelta = timedelta(seconds=120)
    """From sending the request to the first delta."""
    idle: timedelta = timedelta(seconds=60)
    """Between two pieces of the answer; a provider's keep-alive comments do not count."""
    total: timedelta = timedelta(seconds=600)
    """The whole call: waiting for a place, every attempt and the pauses between them."""

    max_concurrency: PositiveInt = 64
    retries: NonNegativeInt = 3
