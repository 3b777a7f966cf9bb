"""Our errors as gRPC statuses: one table."""

import grpc

from maruntime import errors

_STATUS: tuple[tuple[type[errors.MaruntimeError], grpc.StatusCode], ...] = (
    (errors.KeyMissing, grpc.StatusCode.UNAUTHENTICATED),
    (errors.KeyInvalid, grpc.StatusCode.UNAUTHENTICATED),
    (errors.Refused, grpc.StatusCode.PERMISSION_DENIED),
    (errors.NotFound, grpc.StatusCode.NOT_FOUND),
    (errors.Conflict, grpc.StatusCode.FAILED_PRECONDITION),
    (errors.ProtocolUnsupported, grpc.StatusCode.FAILED_PRECONDITION),
    (errors.Invalid, grpc.StatusCode.INVALID_ARGUMENT),
    (errors.Unavailable, grpc.StatusCode.UNAVAILABLE),
)


def status_of(exc: errors.MaruntimeError) -> grpc.StatusCode:
    """The gRPC status that stands for an error; INTERNAL when none does."""
    for kind, status in _STATUS:
        if isinstance(exc, kind):
            return status
    return grpc.StatusCode.INTERNAL
