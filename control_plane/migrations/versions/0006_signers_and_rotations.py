"""Signers in one table, whatever they sign; where their rotation stands; what machines report of their trust."""

import sqlalchemy as sa
from alembic import op

revision = '0006'
down_revision = '0005'
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table('signers',
    sa.Column('signer_id', sa.String(length=255), nullable=False),
    sa.Column('kind', sa.String(length=255), nullable=False),
    sa.Column('form', sa.JSON(), nullable=False),
    sa.Column('key_names', sa.JSON(), nullable=False),
    sa.Column('state', sa.String(length=255), nullable=False),
    sa.Column('creation_time', sa.BigInteger(), nullable=False),
    sa.Column('end_time', sa.BigInteger(), nullable=True),
    sa.Column('tokens_until', sa.BigInteger(), nullable=True),
    sa.PrimaryKeyConstraint('signer_id', name=op.f('pk_signers'))
    )
    with op.batch_alter_table('signers', schema=None) as batch_op:
        batch_op.create_index(batch_op.f('ix_signers_kind_state'), ['kind', 'state'], unique=False)

    op.create_table('rotations',
    sa.Column('kind', sa.String(length=255), nullable=False),
    sa.Column('version', sa.BigInteger(), nullable=False),
    sa.Column('phase', sa.String(length=255), nullable=False),
    sa.Column('incumbent_id', sa.String(length=255), nullable=False),
    sa.Column('candidate_id', sa.String(length=255), nullable=True),
    sa.Column('step', sa.String(length=255), nullable=True),
    sa.Column('step_time', sa.BigInteger(), nullable=False),
    sa.Column('stepped_by', sa.String(length=512), nullable=False),
    sa.Column('gate_sequence', sa.BigInteger(), nullable=False),
    sa.ForeignKeyConstraint(['incumbent_id'], ['signers.signer_id'], name=op.f('fk_rotations_incumbent_id_signers')),
    sa.ForeignKeyConstraint(['candidate_id'], ['signers.signer_id'], name=op.f('fk_rotations_candidate_id_signers')),
    sa.PrimaryKeyConstraint('kind', name=op.f('pk_rotations'))
    )
    op.create_table('trust_reports',
    sa.Column('subject_id', sa.String(length=255), nullable=False),
    sa.Column('kind', sa.String(length=255), nullable=False),
    sa.Column('trust_sequence', sa.BigInteger(), nullable=False),
    sa.Column('root', sa.String(length=255), nullable=True),
    sa.Column('token_key', sa.String(length=255), nullable=True),
    sa.Column('report_time', sa.BigInteger(), nullable=False),
    sa.PrimaryKeyConstraint('subject_id', name=op.f('pk_trust_reports'))
    )
    # A token key of before goes on as it is: the daemon finds its file by the name it always had, and takes it up as
    # the incumbent when it starts.
    op.drop_table('token_keys')

