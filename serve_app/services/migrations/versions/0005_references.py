"""Dances that tenants keep to compare others with."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    op.create_table(
        "dance_references",
        sa.Column("id", sa.String(40), primary_key=True),
        sa.Column("tenant", sa.String(64), nullable=False),
        sa.Column("name", sa.String(128), nullable=False),
        sa.Column("frames", sa.Integer, nullable=False),
        sa.Column("duration_s", sa.Double, nullable=False),
        sa.Column("created_ms", sa.BigInteger, nullable=False),
        sa.Column("landmarks", sa.LargeBinary, nullable=False),
    )
    op.create_index("dance_references_tenant", "dance_references", ["tenant", "created_ms"])
