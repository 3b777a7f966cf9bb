"""The catalog is edited while the system runs: origins, named tools, checks, audit, versions that cannot change."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

_IMMUTABLE = ("tool_versions", "agent_template_versions", "agent_template_tools", "audit_log")


def upgrade() -> None:
    for table in ("tool_versions", "agent_template_versions"):
        op.add_column(table, sa.Column("origin", sa.Text(), server_default="shipped", nullable=False))
        op.add_column(table, sa.Column("created_by", sa.Text(), nullable=True))
        op.create_check_constraint(op.f(f"ck_{table}_origin"), table, "origin in ('shipped','admin')")
    op.create_table(
        "agent_template_tools",
        sa.Column("template_version_id", sa.Text(), nullable=False),
        sa.Column("tool_name", sa.Text(), nullable=False),
        sa.Column("required", sa.Boolean(), nullable=False),
        sa.ForeignKeyConstraint(
            ["template_version_id"],
            ["agent_template_versions.id"],
            name=op.f("fk_agent_template_tools_template_version_id"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("template_version_id", "tool_name", name=op.f("pk_agent_template_tools")),
    )
    op.create_index(op.f("ix_agent_template_tools_tool_name"), "agent_template_tools", ["tool_name"], unique=False)
    op.create_table(
        "tool_checks",
        sa.Column("tool_version_id", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), server_default="asked", nullable=False),
        sa.Column("activates", sa.Boolean(), nullable=False),
        sa.Column("problem", sa.Text(), nullable=True),
        sa.Column("checked_by", sa.Text(), nullable=True),
        sa.Column("asked_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("checked_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint("state in ('asked','passed','failed')", name=op.f("ck_tool_checks_state")),
        sa.ForeignKeyConstraint(
            ["tool_version_id"], ["tool_versions.id"], name=op.f("fk_tool_checks_tool_version_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("tool_version_id", name=op.f("pk_tool_checks")),
    )
    op.create_index("asked", "tool_checks", ["asked_at"], unique=False, postgresql_where=sa.text("state = 'asked'"))
    op.create_table(
        "audit_log",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("tenant_id", sa.Text(), nullable=False),
        sa.Column("principal_id", sa.Text(), nullable=False),
        sa.Column("key_id", sa.Text(), nullable=True),
        sa.Column("request_id", sa.Text(), nullable=True),
        sa.Column("action", sa.Text(), nullable=False),
        sa.Column("target", sa.Text(), nullable=False),
        sa.Column("before", postgresql.JSONB(none_as_null=True, astext_type=sa.Text()), nullable=True),
        sa.Column("after", postgresql.JSONB(none_as_null=True, astext_type=sa.Text()), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_audit_log")),
    )
    op.create_index(op.f("ix_audit_log_tenant_id_id"), "audit_log", ["tenant_id", "id"], unique=False)
    op.create_index(op.f("ix_audit_log_tenant_id_target_id"), "audit_log", ["tenant_id", "target", "id"], unique=False)
    op.execute(
        """
        insert into agent_template_tools (template_version_id, tool_name, required)
        select v.id, t.name,
               coalesce(v.body->'tool_policy'->'required' ? t.name, false)
               or t.name = 'final_answer'
               or (t.name = 'reasoning' and v.body->>'kind' in ('sgr_tool_calling', 'dialog'))
        from agent_template_versions v, jsonb_array_elements_text(v.body->'tools') as t(name)
        on conflict do nothing
        """
    )
    op.execute(
        """
        create function refuse_update() returns trigger language plpgsql as $$
        begin
            raise exception 'rows of % are never updated', tg_table_name using errcode = 'integrity_constraint_violation';
        end $$
        """
    )
    for table in _IMMUTABLE:
        op.execute(
            f"create trigger is_immutable before update on {table} for each row execute function refuse_update()"
        )


def downgrade() -> None:
    for table in _IMMUTABLE:
        op.execute(f"drop trigger is_immutable on {table}")
    op.execute("drop function refuse_update()")
    op.drop_index(op.f("ix_audit_log_tenant_id_target_id"), table_name="audit_log")
    op.drop_index(op.f("ix_audit_log_tenant_id_id"), table_name="audit_log")
    op.drop_table("audit_log")
    op.drop_index("asked", table_name="tool_checks", postgresql_where=sa.text("state = 'asked'"))
    op.drop_table("tool_checks")
    op.drop_index(op.f("ix_agent_template_tools_tool_name"), table_name="agent_template_tools")
    op.drop_table("agent_template_tools")
    for table in ("tool_versions", "agent_template_versions"):
        op.drop_constraint(op.f(f"ck_{table}_origin"), table)
        op.drop_column(table, "created_by")
        op.drop_column(table, "origin")
