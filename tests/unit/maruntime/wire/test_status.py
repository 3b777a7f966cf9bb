"""Our errors as gRPC statuses."""

import grpc
import pytest

from maruntime import errors
from maruntime.wire.codec import MalformedFrame
from maruntime.wire.status import status_of


@pytest.mark.parametrize(
    ("exc", "status"),
    [
        (errors.KeyMissing(), grpc.StatusCode.UNAUTHENTICATED),
        (errors.KeyInvalid(), grpc.StatusCode.UNAUTHENTICATED),
        (errors.ScopeMissing(), grpc.StatusCode.PERMISSION_DENIED),
        (errors.RunNotFound(), grpc.StatusCode.NOT_FOUND),
        (errors.SessionBusy(), grpc.StatusCode.FAILED_PRECONDITION),
        (errors.ProtocolUnsupported(), grpc.StatusCode.FAILED_PRECONDITION),
        (MalformedFrame(), grpc.StatusCode.INVALID_ARGUMENT),
        (errors.StoreUnavailable(), grpc.StatusCode.UNAVAILABLE),
        (errors.NoSlotFree(), grpc.StatusCode.UNAVAILABLE),
        (errors.RunDead(), grpc.StatusCode.INTERNAL),
        (errors.MaruntimeError(), grpc.StatusCode.INTERNAL),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else value.name,
)
def test_an_error_has_its_status(exc: errors.MaruntimeError, status: grpc.StatusCode) -> None:
    assert status_of(exc) is status


def test_whatever_may_pass_by_itself_is_told_as_unavailable() -> None:
    def below(kind: type[errors.MaruntimeError]) -> list[type[errors.MaruntimeError]]:
        return [kind, *(lower for child in kind.__subclasses__() for lower in below(child))]

    ours = [kind for kind in below(errors.MaruntimeError) if kind.__module__ == "maruntime.errors"]

    assert {kind.retryable for kind in ours if status_of(kind()) is grpc.StatusCode.UNAVAILABLE} == {True}
    assert all(status_of(kind()) is grpc.StatusCode.UNAVAILABLE for kind in ours if kind.retryable)
