"""Which version of a model is active, which one the canary, and what a rollback returns to."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    op.create_table(
        "switches",
        sa.Column("model", sa.String(160), primary_key=True),
        sa.Column("active", sa.String(80), nullable=False),
        sa.Column("previous", sa.String(80)),
        sa.Column("canary", sa.String(80)),
        sa.Column("share", sa.Float, nullable=False),
        sa.Column("changed_ms", sa.BigInteger, nullable=False),
    )
