"""Talking to language models: one contract, one OpenAI-compatible implementation."""
