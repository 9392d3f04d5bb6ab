"""Locks that are made and lifted; what relays and nodes report of a trust document; which documents were published."""

import sqlalchemy as sa
from alembic import op

revision = '0005'
down_revision = '0004'
branch_labels = None
depends_on = None


def upgrade() -> None:
    # Nothing ever wrote this table: there was no way to make a lock.
    op.drop_table('locks')
    op.create_table('locks',
    sa.Column('lock_id', sa.String(length=255), nullable=False),
    sa.Column('kind', sa.String(length=255), nullable=False),
    sa.Column('id', sa.String(length=255), nullable=False),
    sa.Column('reason', sa.String(length=512), nullable=False),
    sa.Column('lifetime_seconds', sa.BigInteger(), nullable=False),
    sa.Column('sequence', sa.BigInteger(), nullable=False),
    sa.Column('creation_time', sa.BigInteger(), nullable=False),
    sa.Column('expire_time', sa.BigInteger(), nullable=False),
    sa.Column('locked_by', sa.String(length=512), nullable=False),
    sa.Column('ended', sa.Boolean(), nullable=False),
    sa.Column('lift_time', sa.BigInteger(), nullable=True),
    sa.Column('lifted_by', sa.String(length=512), nullable=True),
    sa.Column('lift_sequence', sa.BigInteger(), nullable=True),
    sa.PrimaryKeyConstraint('lock_id', name=op.f('pk_locks'))
    )
    with op.batch_alter_table('locks', schema=None) as batch_op:
        batch_op.create_index(batch_op.f('ix_locks_ended_expire_time'), ['ended', 'expire_time'], unique=False)
        batch_op.create_index(batch_op.f('ix_locks_kind_id'), ['kind', 'id'], unique=False)
        batch_op.create_index(batch_op.f('ix_locks_sequence'), ['sequence'], unique=False)

    op.create_table('trust_publications',
    sa.Column('sequence', sa.BigInteger(), autoincrement=False, nullable=False),
    sa.Column('fingerprint', sa.String(length=255), nullable=False),
    sa.Column('time', sa.BigInteger(), nullable=False),
    sa.PrimaryKeyConstraint('sequence', 'fingerprint', name=op.f('pk_trust_publications'))
    )
    with op.batch_alter_table('trust_publications', schema=None) as batch_op:
        batch_op.create_index(batch_op.f('ix_trust_publications_time'), ['time'], unique=False)

    op.create_table('trust_adoptions',
    sa.Column('relay_id', sa.String(length=255), nullable=False),
    sa.Column('sequence', sa.BigInteger(), autoincrement=False, nullable=False),
    sa.Column('cut_milliseconds', sa.BigInteger(), nullable=False),
    sa.Column('time', sa.BigInteger(), nullable=False),
    sa.ForeignKeyConstraint(['relay_id'], ['relays.relay_id'], name=op.f('fk_trust_adoptions_relay_id_relays'), ondelete='CASCADE'),
    sa.PrimaryKeyConstraint('relay_id', 'sequence', name=op.f('pk_trust_adoptions'))
    )
    with op.batch_alter_table('trust_adoptions', schema=None) as batch_op:
        batch_op.create_index(batch_op.f('ix_trust_adoptions_time'), ['time'], unique=False)

    op.create_table('trust_cuts',
    sa.Column('cause', sa.String(length=255), nullable=False),
    sa.Column('kind', sa.String(length=255), nullable=False),
    sa.Column('id', sa.String(length=255), nullable=False),
    sa.Column('adopter_id', sa.String(length=255), nullable=False),
    sa.Column('sequence', sa.BigInteger(), autoincrement=False, nullable=False),
    sa.Column('links', sa.BigInteger(), nullable=False),
    sa.Column('streams', sa.BigInteger(), nullable=False),
    sa.Column('exchanges', sa.BigInteger(), nullable=False),
    sa.Column('time', sa.BigInteger(), nullable=False),
    sa.PrimaryKeyConstraint('cause', 'kind', 'id', 'adopter_id', 'sequence', name=op.f('pk_trust_cuts'))
    )
    with op.batch_alter_table('trust_cuts', schema=None) as batch_op:
        batch_op.create_index(batch_op.f('ix_trust_cuts_time'), ['time'], unique=False)

    op.create_table('node_reporters',
    sa.Column('node_id', sa.String(length=255), nullable=False),
    sa.Column('reporter', sa.String(length=255), nullable=False),
    sa.Column('sequence', sa.BigInteger(), nullable=False),
    sa.Column('dropped', sa.BigInteger(), nullable=False),
    sa.Column('time', sa.BigInteger(), nullable=False),
    sa.ForeignKeyConstraint(['node_id'], ['nodes.node_id'], name=op.f('fk_node_reporters_node_id_nodes'), ondelete='CASCADE'),
    sa.PrimaryKeyConstraint('node_id', name=op.f('pk_node_reporters'))
    )
    op.add_column('nodes', sa.Column('trust_time', sa.BigInteger(), nullable=True))
