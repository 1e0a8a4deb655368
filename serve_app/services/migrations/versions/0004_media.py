"""What runs used that is no token: sound, frames, characters."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    for name in ("audio_ms", "frames", "characters"):
        op.add_column("ledger", sa.Column(name, sa.BigInteger, nullable=False, server_default="0"))
