"""The ledger, the accounts that budgets are kept in, and the processes that hold reservations."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    op.create_table(
        "ledger",
        sa.Column("id", sa.String(36), primary_key=True),
        sa.Column("request_id", sa.String(160), nullable=False),
        sa.Column("owner", sa.String(36), nullable=False),
        sa.Column("state", sa.String(10), nullable=False),
        sa.Column("outcome", sa.String(40)),
        sa.Column("created_ms", sa.BigInteger, nullable=False),
        sa.Column("settled_ms", sa.BigInteger),
        sa.Column("account", sa.String(160)),
        sa.Column("tenant", sa.String(160), nullable=False),
        sa.Column("key_id", sa.String(160)),
        sa.Column("user_id", sa.String(512)),
        sa.Column("zone", sa.String(160)),
        sa.Column("door", sa.String(20), nullable=False),
        sa.Column("kind", sa.String(40), nullable=False),
        sa.Column("model", sa.String(160), nullable=False),
        sa.Column("version", sa.String(80), nullable=False),
        sa.Column("engine", sa.String(160), nullable=False),
        sa.Column("node_class", sa.String(80), nullable=False),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("prompt_tokens", sa.BigInteger, nullable=False),
        sa.Column("completion_tokens", sa.BigInteger, nullable=False),
        sa.Column("cached_tokens", sa.BigInteger, nullable=False),
        sa.Column("engine_us", sa.BigInteger, nullable=False),
        sa.Column("reserved_nano", sa.BigInteger, nullable=False),
        sa.Column("cost_nano", sa.BigInteger, nullable=False),
        sa.Column("saved_nano", sa.BigInteger, nullable=False),
    )
    op.create_index("ledger_created", "ledger", ["created_ms"])
    reserved = sa.text("state = 'reserved'")
    op.create_index("ledger_open", "ledger", ["owner"], sqlite_where=reserved, postgresql_where=reserved)
    op.create_table(
        "accounts",
        sa.Column("id", sa.String(160), primary_key=True),
        sa.Column("limit_nano", sa.BigInteger, nullable=False),
        sa.Column("reserved_nano", sa.BigInteger, nullable=False),
        sa.Column("spent_nano", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "owners",
        sa.Column("id", sa.String(36), primary_key=True),
        sa.Column("seen_ms", sa.BigInteger, nullable=False),
    )
