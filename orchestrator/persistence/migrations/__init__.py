"""Alembic migrations, run by `python -m orchestrator migrate`.

Migrations expand first and contract a release later, so that a rolling upgrade
never leaves a replica without the columns that it reads.
"""
