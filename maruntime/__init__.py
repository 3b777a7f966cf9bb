"""What the orchestrator and the agent worker share: words, pure rules, wire codecs. Does no I/O of its own."""
