"""Workspace secrets: scopes, sealed values, wrapped data keys, grants, bundles; references in submissions."""

import sqlalchemy as sa
from alembic import op

revision = '0002'
down_revision = '0001'
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column('submissions', sa.Column('secrets', sa.JSON(), nullable=True))
    op.create_table('secret_scopes',
    sa.Column('workspace_id', sa.String(length=255), nullable=False),
    sa.Column('scope', sa.String(length=255), nullable=False),
    sa.Column('creation_time', sa.BigInteger(), nullable=False),
    sa.Column('created_by', sa.String(length=255), nullable=False),
    sa.ForeignKeyConstraint(['workspace_id'], ['workspaces.workspace_id'], name=op.f('fk_secret_scopes_workspace_id_workspaces'), ondelete='CASCADE'),
    sa.PrimaryKeyConstraint('workspace_id', 'scope', name=op.f('pk_secret_scopes'))
    )
    op.create_table('secrets',
    sa.Column('workspace_id', sa.String(length=255), nullable=False),
    sa.Column('scope', sa.String(length=255), nullable=False),
    sa.Column('key', sa.String(length=255), nullable=False),
    sa.Column('version', sa.BigInteger(), nullable=False),
    sa.Column('sealed', sa.LargeBinary(), nullable=False),
    sa.Column('size_bytes', sa.BigInteger(), nullable=False),
    sa.Column('update_time', sa.BigInteger(), nullable=False),
    sa.Column('updated_by', sa.String(length=255), nullable=False),
    sa.ForeignKeyConstraint(['workspace_id', 'scope'], ['secret_scopes.workspace_id', 'secret_scopes.scope'], name=op.f('fk_secrets_workspace_id_secret_scopes'), ondelete='CASCADE'),
    sa.PrimaryKeyConstraint('workspace_id', 'scope', 'key', name=op.f('pk_secrets'))
    )
    op.create_table('secret_data_keys',
    sa.Column('workspace_id', sa.String(length=255), nullable=False),
    sa.Column('key_id', sa.String(length=255), nullable=False),
    sa.Column('wrapped', sa.LargeBinary(), nullable=False),
    sa.Column('last_version', sa.BigInteger(), nullable=False),
    sa.Column('creation_time', sa.BigInteger(), nullable=False),
    sa.ForeignKeyConstraint(['workspace_id'], ['workspaces.workspace_id'], name=op.f('fk_secret_data_keys_workspace_id_workspaces'), ondelete='CASCADE'),
    sa.PrimaryKeyConstraint('workspace_id', name=op.f('pk_secret_data_keys'))
    )
    with op.batch_alter_table('secret_data_keys', schema=None) as batch_op:
        batch_op.create_index(batch_op.f('ix_secret_data_keys_key_id'), ['key_id'], unique=False)

    op.create_table('secret_grants',
    sa.Column('grant_id', sa.String(length=255), nullable=False),
    sa.Column('workspace_id', sa.String(length=255), nullable=False),
    sa.Column('scope', sa.String(length=255), nullable=False),
    sa.Column('node_id', sa.String(length=255), nullable=True),
    sa.Column('cluster_id', sa.String(length=255), nullable=True),
    sa.Column('selector', sa.JSON(), nullable=True),
    sa.Column('creation_time', sa.BigInteger(), nullable=False),
    sa.Column('created_by', sa.String(length=255), nullable=False),
    sa.ForeignKeyConstraint(['cluster_id'], ['clusters.cluster_id'], name=op.f('fk_secret_grants_cluster_id_clusters'), ondelete='CASCADE'),
    sa.ForeignKeyConstraint(['node_id'], ['nodes.node_id'], name=op.f('fk_secret_grants_node_id_nodes'), ondelete='CASCADE'),
    sa.ForeignKeyConstraint(['workspace_id', 'scope'], ['secret_scopes.workspace_id', 'secret_scopes.scope'], name=op.f('fk_secret_grants_workspace_id_secret_scopes'), ondelete='CASCADE'),
    sa.PrimaryKeyConstraint('grant_id', name=op.f('pk_secret_grants'))
    )
    with op.batch_alter_table('secret_grants', schema=None) as batch_op:
        batch_op.create_index(batch_op.f('ix_secret_grants_cluster_id'), ['cluster_id'], unique=False)
        batch_op.create_index(batch_op.f('ix_secret_grants_node_id'), ['node_id'], unique=False)
        batch_op.create_index(batch_op.f('ix_secret_grants_workspace_id'), ['workspace_id'], unique=False)

    op.create_table('secret_bundles',
    sa.Column('node_id', sa.String(length=255), nullable=False),
    sa.Column('sequence', sa.BigInteger(), nullable=False),
    sa.Column('fingerprint', sa.String(length=255), nullable=False),
    sa.Column('contents', sa.JSON(), nullable=False),
    sa.Column('hand_time', sa.BigInteger(), nullable=True),
    sa.Column('adopted_fingerprint', sa.String(length=255), nullable=True),
    sa.Column('held', sa.JSON(), nullable=False),
    sa.Column('adopt_time', sa.BigInteger(), nullable=True),
    sa.Column('accepts', sa.Boolean(), nullable=False),
    sa.Column('last_report', sa.String(length=255), nullable=True),
    sa.ForeignKeyConstraint(['node_id'], ['nodes.node_id'], name=op.f('fk_secret_bundles_node_id_nodes'), ondelete='CASCADE'),
    sa.PrimaryKeyConstraint('node_id', name=op.f('pk_secret_bundles'))
    )
