"""ORM rows. Importing this package registers every table with the metadata."""

from orchestrator.persistence.rows import api_key, audit, catalog, retrieval, run, session
from orchestrator.persistence.rows.base import Row

__all__ = ["Row", "api_key", "audit", "catalog", "retrieval", "run", "session"]
