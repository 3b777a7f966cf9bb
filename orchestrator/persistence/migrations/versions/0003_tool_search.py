"""The index of the tool search."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from orchestrator.persistence.rows.retrieval import Vector

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

# The server's own configurations, but for their stop words: "all" and "off" tell commands apart.
_STEMMING = (
    "create text search dictionary maruntime_english_stem (template = snowball, language = english)",
    "create text search dictionary maruntime_russian_stem (template = snowball, language = russian)",
    "create text search configuration maruntime_english (copy = pg_catalog.english)",
    "create text search configuration maruntime_russian (copy = pg_catalog.russian)",
    "alter text search configuration maruntime_english alter mapping replace english_stem with maruntime_english_stem",
    "alter text search configuration maruntime_russian alter mapping replace english_stem with maruntime_english_stem",
    "alter text search configuration maruntime_russian alter mapping replace russian_stem with maruntime_russian_stem",
)


def upgrade() -> None:
    op.execute("create extension if not exists vector")
    for statement in _STEMMING:
        op.execute(statement)
    op.create_table(
        "tool_search_state",
        sa.Column("singleton", sa.Boolean(), server_default=sa.text("true"), nullable=False),
        sa.Column("revision", sa.BigInteger(), server_default="0", nullable=False),
        sa.CheckConstraint("singleton", name=op.f("ck_tool_search_state_one_row")),
        sa.PrimaryKeyConstraint("singleton", name=op.f("pk_tool_search_state")),
    )
    op.execute("insert into tool_search_state default values")
    op.create_table(
        "tool_search_documents",
        sa.Column("version_id", sa.Text(), nullable=False),
        sa.Column("revision", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("version_id", name=op.f("pk_tool_search_documents")),
    )
    op.create_table(
        "tool_search_passages",
        sa.Column("version_id", sa.Text(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("heading", sa.Text(), nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.Column("embedded", sa.Text(), nullable=False),
        sa.Column("lexemes", postgresql.TSVECTOR(), nullable=False),
        sa.ForeignKeyConstraint(
            ["version_id"],
            ["tool_search_documents.version_id"],
            name=op.f("fk_tool_search_passages_version_id"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("version_id", "number", name=op.f("pk_tool_search_passages")),
    )
    op.create_table(
        "tool_search_vectors",
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("version_id", sa.Text(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("embedding", Vector(), nullable=False),
        sa.ForeignKeyConstraint(
            ["version_id", "number"],
            ["tool_search_passages.version_id", "tool_search_passages.number"],
            name=op.f("fk_tool_search_vectors_version_id_number"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("model", "version_id", "number", name=op.f("pk_tool_search_vectors")),
    )
    op.create_index(op.f("ix_tool_search_vectors_version_id_number"), "tool_search_vectors", ["version_id", "number"])
    op.create_table(
        "tool_search_models",
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("dimension", sa.Integer(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("done", sa.Integer(), server_default="0", nullable=False),
        sa.Column("total", sa.Integer(), server_default="0", nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint("state in ('building','serving','retired')", name=op.f("ck_tool_search_models_state")),
        sa.PrimaryKeyConstraint("model", name=op.f("pk_tool_search_models")),
    )
    op.create_index(
        "one_serving_model",
        "tool_search_models",
        ["state"],
        unique=True,
        postgresql_where=sa.text("state = 'serving'"),
    )


def downgrade() -> None:
    op.drop_index("one_serving_model", table_name="tool_search_models", postgresql_where=sa.text("state = 'serving'"))
    op.drop_table("tool_search_models")
    op.drop_index(op.f("ix_tool_search_vectors_version_id_number"), table_name="tool_search_vectors")
    op.drop_table("tool_search_vectors")
    op.drop_table("tool_search_passages")
    op.drop_table("tool_search_documents")
    op.drop_table("tool_search_state")
    for kind, name in (("configuration", ""), ("dictionary", "_stem")):
        for language in ("english", "russian"):
            op.execute(f"drop text search {kind} maruntime_{language}{name}")
    # The extension stays: other things of the database may use it.
