"""What the orchestrator counts. Never labelled by session."""

from prometheus_client import Counter, Gauge, Histogram

REQUESTS = Counter("maruntime_http_requests_total", "HTTP requests", ["method", "route", "status"])
REQUEST_SECONDS = Histogram(
    "maruntime_http_request_seconds",
    "Time until the whole response was written",
    ["route"],
    buckets=(0.005, 0.02, 0.1, 0.5, 2, 10, 60, 600),
)
RUNS_ACCEPTED = Counter("maruntime_runs_accepted_total", "Turns accepted", ["kind"])
RUNS_CLAIMED = Counter("maruntime_runs_claimed_total", "Runs put on a slot")
RUNS_ENDED = Counter("maruntime_runs_ended_total", "Runs let go of by an instance", ["outcome"])
RUNS_SWEPT = Counter("maruntime_runs_swept_total", "Runs taken back or ended by the sweeper", ["outcome"])
COMMITS = Counter("maruntime_commits_total", "Commits of workers", ["verdict"])
COMMIT_SECONDS = Histogram(
    "maruntime_commit_seconds", "Time to store a commit", buckets=(0.001, 0.002, 0.005, 0.01, 0.05, 0.2, 1, 10)
)
LLM_TOKENS = Counter("maruntime_llm_tokens_total", "Tokens of LLM calls", ["kind"])
SLOTS = Gauge("maruntime_slots", "Slots attached to this replica", ["state"])
READERS = Gauge("maruntime_event_readers", "Open readers of runs")
WORKER_LOOP_LAG_SECONDS = Histogram(
    "maruntime_worker_loop_lag_seconds",
    "Event loop lag that workers told with their heartbeats",
    buckets=(0.001, 0.005, 0.02, 0.1, 0.5, 2),
)
