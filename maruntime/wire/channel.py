"""gRPC options that both ends agree on.

Messages are at most 16 MiB both ways. Keepalive only closes half-open sockets:
it is answered by threads of the C core and proves nothing about a worker.
A lost channel is dialled again within 100 ms, below the re-attach grace.
"""

MAX_MESSAGE_BYTES = 16 * 1024 * 1024

_SHARED = (
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 5_000),
)

CLIENT_OPTIONS: list[tuple[str, int | str]] = [
    *_SHARED,
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.lb_policy_name", "round_robin"),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1_000),
    # Workers of one test machine must not share sub-channels with a dead server.
    ("grpc.use_local_subchannel_pool", 1),
]

SERVER_OPTIONS: list[tuple[str, int | str]] = [
    *_SHARED,
    ("grpc.http2.min_ping_interval_without_data_ms", 5_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.max_concurrent_streams", 10_000),
    # A second replica on the same port must fail, not share the port silently.
    ("grpc.so_reuseport", 0),
]
