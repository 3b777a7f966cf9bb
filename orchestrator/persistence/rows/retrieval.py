"""The index of the tool search. All of it can be made again from the catalog (docs/tool_search.md)."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, Boolean, CheckConstraint, ForeignKeyConstraint, Index, func, text
from sqlalchemy.dialects.postgresql import TSVECTOR
from sqlalchemy.dialects.postgresql.base import ischema_names
from sqlalchemy.orm import Mapped, mapped_column
from sqlalchemy.types import UserDefinedType

from orchestrator.persistence.rows.base import Row


class Vector(UserDefinedType[Sequence[float]]):
    """pgvector's `vector` without a fixed dimension: models of several dimensions share the table.

    For the schema only: the index reads and writes by its own statements.
    """

    cache_ok = True

    def get_col_spec(self, **_: Any) -> str:
        """Name the type in DDL."""
        return "vector"


ischema_names["vector"] = Vector


class ToolSearchStateRow(Row):
    """The one row that every writer of the index takes, and every reader compares."""

    __tablename__ = "tool_search_state"
    __table_args__ = (CheckConstraint("singleton", name="one_row"),)

    singleton: Mapped[bool] = mapped_column(Boolean, primary_key=True, server_default=text("true"))
    revision: Mapped[int] = mapped_column(BigInteger, server_default="0")


class ToolSearchDocumentRow(Row):
    """A tool version that can be found, and the revision that last changed it."""

    __tablename__ = "tool_search_documents"

    version_id: Mapped[str] = mapped_column(primary_key=True)
    revision: Mapped[int] = mapped_column(BigInteger)


class ToolSearchPassageRow(Row):
    """A piece of a document, its stems by Postgres: weight A of the heading, B of the text."""

    __tablename__ = "tool_search_passages"
    __table_args__ = (ForeignKeyConstraint(["version_id"], ["tool_search_documents.version_id"], ondelete="CASCADE"),)

    version_id: Mapped[str] = mapped_column(primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True)
    heading: Mapped[str]
    body: Mapped[str]
    embedded: Mapped[str]
    """What an embedding provider is given."""
    lexemes: Mapped[str] = mapped_column(TSVECTOR)


class ToolSearchVectorRow(Row):
    """The vector of a passage by one model."""

    __tablename__ = "tool_search_vectors"
    __table_args__ = (
        ForeignKeyConstraint(
            ["version_id", "number"],
            ["tool_search_passages.version_id", "tool_search_passages.number"],
            ondelete="CASCADE",
        ),
        Index(None, "version_id", "number"),
    )

    model: Mapped[str] = mapped_column(primary_key=True)
    version_id: Mapped[str] = mapped_column(primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True)
    embedding: Mapped[Any] = mapped_column(Vector)


class ToolSearchModelRow(Row):
    """An embedding model's part of the index; at most one is serving."""

    __tablename__ = "tool_search_models"
    __table_args__ = (
        CheckConstraint("state in ('building','serving','retired')", name="state"),
        Index("one_serving_model", "state", unique=True, postgresql_where=text("state = 'serving'")),
    )

    model: Mapped[str] = mapped_column(primary_key=True)
    dimension: Mapped[int]
    state: Mapped[str]
    done: Mapped[int] = mapped_column(server_default="0")
    total: Mapped[int] = mapped_column(server_default="0")
    updated_at: Mapped[datetime] = mapped_column(server_default=func.now())
