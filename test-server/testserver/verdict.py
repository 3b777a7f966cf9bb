"""What a case is answered with: the wire form of a judgement."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict


class Failure(BaseModel):
    """One expectation that did not hold."""

    model_config = ConfigDict(frozen=True)

    where: str
    expected: Any
    got: Any


class StepVerdict(BaseModel):
    """One step of a case with everything that was wrong about it."""

    model_config = ConfigDict(frozen=True)

    name: str
    passed: bool
    failures: list[Failure] = []

    @classmethod
    def from_failures(cls, name: str, failures: list[Failure]) -> "StepVerdict":
        """The verdict on a step: it passed when nothing failed."""
        return cls(name=name, passed=not failures, failures=failures)


class Verdict(BaseModel):
    """The judgement on one execution of a case.

    An `error` means that the case could not be judged at all (its file is
    invalid, the stack is not configured); it never passes.
    """

    model_config = ConfigDict(frozen=True)

    case: str
    requirement: list[str] = []
    passed: bool
    duration_ms: int = 0
    steps: list[StepVerdict] = []
    llm_requests: int = 0
    error: str | None = None

    @property
    def outcome(self) -> Literal["passed", "failed", "error"]:
        """One word for a report."""
        if self.error is not None:
            return "error"
        return "passed" if self.passed else "failed"

    @classmethod
    def from_error(cls, case: str, error: str) -> "Verdict":
        """The verdict on a case that could not be judged."""
        return cls(case=case, passed=False, error=error)
