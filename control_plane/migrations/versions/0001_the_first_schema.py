"""The first schema; audit events can be added, and neither changed nor removed."""

import sqlalchemy as sa
from alembic import op

revision = '0001'
down_revision = None
branch_labels = None
depends_on = None


SQLITE_TRIGGER = """
CREATE TRIGGER audit_events_no_{0} BEFORE {0} ON audit_events
BEGIN SELECT RAISE(ABORT, 'audit events are append-only'); END
"""
POSTGRESQL_TRIGGER = (
    """
CREATE FUNCTION refuse_audit_change() RETURNS trigger AS $$
BEGIN RAISE EXCEPTION 'audit events are append-only'; END $$ LANGUAGE plpgsql
""",
    """
CREATE TRIGGER audit_events_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON audit_events
FOR EACH STATEMENT EXECUTE FUNCTION refuse_audit_change()
""",
)


def upgrade() -> None:
    op.create_table('accounts',
    sa.Column('account_id', sa.String(length=255), nullable=False),
    sa.Column('page_key', sa.String(length=255), nullable=False),
    sa.Column('trust_sequence', sa.BigInteger(), nullable=False),
    sa.Column('trust_change_time', sa.BigInteger(), nullable=False),
    sa.Column('trust_fingerprint', sa.String(length=255), nullable=True),
    sa.Column('creation_time', sa.BigInteger(), nullable=False),
    sa.PrimaryKeyConstraint('account_id', name=op.f('pk_accounts'))
    )
    op.create_table('audit_events',
    sa.Column('event_id', sa.BigInteger().with_variant(sa.Integer(), 'sqlite'), autoincrement=True, nullable=False),
    sa.Column('time', sa.BigInteger(), nullable=False),
    sa.Column('actor', sa.String(length=512), nullable=False),
    sa.Column('action', sa.String(length=255), nullable=False),
    sa.Column('outcome', sa.String(length=255), nullable=False),
    sa.Column('resource', sa.String(length=512), nullable=True),
    sa.Column('workspace_id', sa.String(length=255), nullable=True),
    sa.Column('request_id', sa.String(length=255), nullable=True),
    sa.Column('source_address', sa.String(length=255), nullable=True),
    sa.Column('details', sa.JSON(), nullable=False),
    sa.PrimaryKeyConstraint('event_id', name=op.f('pk_audit_events'))
    )
    with op.batch_alter_table('audit_events', schema=None) as batch_op:
        batch_op.create_index(batch_op.f('ix_audit_events_action_event_id'), ['action', 'event_id'], unique=False)
        batch_op.create_index(batch_op.f('ix_audit_events_time'), ['time'], unique=False)
        batch_op.create_index(batch_op.f('ix_audit_events_workspace_id_event_id'), ['workspace_id', 'event_id'], unique=False)

    op.create_table('certificates',
    sa.Column('serial', sa.String(length=255), nullable=False),
    sa.Column('subject_kind', sa.String(length=255), nullable=False),
    sa.Column('subject_id', sa.String(length=255), nullable=False),
    sa.Column('origin', sa.String(length=255), nullable=False),
    sa.Column('csr_sha256', sa.String(length=255), nullable=False),
    sa.Column('chain', sa.Text(), nullable=False),
    sa.Column('issue_time', sa.BigInteger(), nullable=False),
    sa.Column('expire_time', sa.BigInteger(), nullable=False),
    sa.Column('confirm_time', sa.BigInteger(), nullable=True),
    sa.PrimaryKeyConstraint('serial', name=op.f('pk_certificates'))
    )
    with op.batch_alter_table('certificates', schema=None) as batch_op:
        batch_op.create_index(batch_op.f('ix_certificates_expire_time'), ['expire_time'], unique=False)
        batch_op.create_index(batch_op.f('ix_certificates_subject_id_csr_sha256'), ['subject_id', 'csr_sha256'], unique=False)

    op.create_table('challenges',
    sa.Column('nonce_sha256', sa.String(length=255), nullable=False),
    sa.Column('expire_time', sa.BigInteger(), nullable=False),
    sa.PrimaryKeyConstraint('nonce_sha256', name=op.f('pk_challenges'))
    )
    with op.batch_alter_table('challenges', schema=None) as batch_op:
        batch_op.create_index(batch_op.f('ix_challenges_expire_time'), ['expire_time'], unique=False)

    op.create_table('issued_answers',
    sa.Column('credential_sha256', sa.String(length=255), nullable=False),
    sa.Column('csr_sha256', sa.String(length=255), nullable=False),
    sa.Column('subject_id', sa.String(length=255), nullable=False),
    sa.Column('answer', sa.JSON(), nullable=False),
    sa.Column('expire_time', sa.BigInteger(), nullable=False),
    sa.PrimaryKeyConstraint('credential_sha256', 'csr_sha256', name=op.f('pk_issued_answers'))
    )
    with op.batch_alter_table('issued_answers', schema=None) as batch_op:
        batch_op.create_index(batch_op.f('ix_issued_answers_expire_time'), ['expire_time'], unique=False)

    op.create_table('locks',
    sa.Column('kind', sa.String(length=255), nullable=False),
    sa.Column('id', sa.String(length=255), nullable=False),
    sa.Column('expire_time', sa.BigInteger(), nullable=False),
    sa.Column('reason', sa.String(length=255), nullable=False),
    sa.PrimaryKeyConstraint('kind', 'id', name=op.f('pk_locks'))
    )
    op.create_table('operators',
    sa.Column('operator_id', sa.String(length=255), nullable=False),
    sa.Column('token_sha256', sa.String(length=255), nullable=False),
    sa.Column('creation_time', sa.BigInteger(), nullable=False),
    sa.PrimaryKeyConstraint('operator_id', name=op.f('pk_operators')),
    sa.UniqueConstraint('token_sha256', name=op.f('uq_operators_token_sha256'))
    )
    op.create_table('relay_join_tokens',
    sa.Column('join_token_id', sa.String(length=255), nullable=False),
    sa.Column('token_sha256', sa.String(length=255), nullable=False),
    sa.Column('name', sa.String(length=255), nullable=False),
    sa.Column('dns_names', sa.JSON(), nullable=False),
    sa.Column('relay_id', sa.String(length=255), nullable=True),
    sa.Column('expire_time', sa.BigInteger(), nullable=False),
    sa.Column('creation_time', sa.BigInteger(), nullable=False),
    sa.PrimaryKeyConstraint('join_token_id', name=op.f('pk_relay_join_tokens')),
    sa.UniqueConstraint('token_sha256', name=op.f('uq_relay_join_tokens_token_sha256'))
    )
    op.create_table('relays',
    sa.Column('relay_id', sa.String(length=255), nullable=False),
    sa.Column('relay', sa.String(length=255), nullable=False),
    sa.Column('dns_names', sa.JSON(), nullable=False),
    sa.Column('url', sa.String(length=255), nullable=True),
    sa.Column('trust_sequence', sa.BigInteger(), nullable=True),
    sa.Column('creation_time', sa.BigInteger(), nullable=False),
    sa.Column('last_seen_time', sa.BigInteger(), nullable=True),
    sa.PrimaryKeyConstraint('relay_id', name=op.f('pk_relays')),
    sa.UniqueConstraint('relay', name=op.f('uq_relays_relay'))
    )
    op.create_table('revocations',
    sa.Column('kind', sa.String(length=255), nullable=False),
    sa.Column('id', sa.String(length=255), nullable=False),
    sa.Column('sequence', sa.BigInteger(), nullable=False),
    sa.Column('expire_time', sa.BigInteger(), nullable=True),
    sa.Column('creation_time', sa.BigInteger(), nullable=False),
    sa.Column('revoked_by', sa.String(length=255), nullable=False),
    sa.PrimaryKeyConstraint('kind', 'id', name=op.f('pk_revocations'))
    )
    with op.batch_alter_table('revocations', schema=None) as batch_op:
        batch_op.create_index(batch_op.f('ix_revocations_sequence'), ['sequence'], unique=False)

    op.create_table('token_keys',
    sa.Column('kid', sa.String(length=255), nullable=False),
    sa.Column('alg', sa.String(length=255), nullable=False),
    sa.Column('jwk', sa.JSON(), nullable=False),
    sa.Column('creation_time', sa.BigInteger(), nullable=False),
    sa.PrimaryKeyConstraint('kid', name=op.f('pk_token_keys'))
    )
    op.create_table('report_totals',
    sa.Column('relay_id', sa.String(length=255), nullable=False),
    sa.Column('hour', sa.BigInteger(), nullable=False),
    sa.Column('type', sa.String(length=255), nullable=False),
    sa.Column('outcome', sa.String(length=255), nullable=False),
    sa.Column('total', sa.BigInteger(), nullable=False),
    sa.ForeignKeyConstraint(['relay_id'], ['relays.relay_id'], name=op.f('fk_report_totals_relay_id_relays'), ondelete='CASCADE'),
    sa.PrimaryKeyConstraint('relay_id', 'hour', 'type', 'outcome', name=op.f('pk_report_totals'))
    )
    op.create_table('reporters',
    sa.Column('relay_id', sa.String(length=255), nullable=False),
    sa.Column('reporter', sa.String(length=255), nullable=False),
    sa.Column('sequence', sa.BigInteger(), nullable=False),
    sa.Column('dropped', sa.BigInteger(), nullable=False),
    sa.Column('time', sa.BigInteger(), nullable=False),
    sa.ForeignKeyConstraint(['relay_id'], ['relays.relay_id'], name=op.f('fk_reporters_relay_id_relays'), ondelete='CASCADE'),
    sa.PrimaryKeyConstraint('relay_id', 'reporter', name=op.f('pk_reporters'))
    )
    op.create_table('workspaces',
    sa.Column('workspace_id', sa.String(length=255), nullable=False),
    sa.Column('account_id', sa.String(length=255), nullable=False),
    sa.Column('workspace', sa.String(length=255), nullable=False),
    sa.Column('creation_time', sa.BigInteger(), nullable=False),
    sa.ForeignKeyConstraint(['account_id'], ['accounts.account_id'], name=op.f('fk_workspaces_account_id_accounts')),
    sa.PrimaryKeyConstraint('workspace_id', name=op.f('pk_workspaces')),
    sa.UniqueConstraint('workspace', name=op.f('uq_workspaces_workspace'))
    )
    op.create_table('clusters',
    sa.Column('cluster_id', sa.String(length=255), nullable=False),
    sa.Column('workspace_id', sa.String(length=255), nullable=False),
    sa.Column('cluster', sa.String(length=255), nullable=False),
    sa.Column('creation_time', sa.BigInteger(), nullable=False),
    sa.ForeignKeyConstraint(['workspace_id'], ['workspaces.workspace_id'], name=op.f('fk_clusters_workspace_id_workspaces')),
    sa.PrimaryKeyConstraint('cluster_id', name=op.f('pk_clusters')),
    sa.UniqueConstraint('workspace_id', 'cluster', name=op.f('uq_clusters_workspace_id_cluster'))
    )
    op.create_table('commands',
    sa.Column('workspace_id', sa.String(length=255), nullable=False),
    sa.Column('command_id', sa.String(length=255), nullable=False),
    sa.Column('submission_id', sa.String(length=255), nullable=False),
    sa.Column('node_id', sa.String(length=255), nullable=False),
    sa.Column('node', sa.String(length=255), nullable=False),
    sa.Column('state', sa.String(length=255), nullable=False),
    sa.Column('final', sa.Boolean(), nullable=False),
    sa.Column('delivered', sa.Boolean(), nullable=False),
    sa.Column('maybe_delivered_until', sa.BigInteger(), nullable=True),
    sa.Column('deliver_before', sa.BigInteger(), nullable=False),
    sa.Column('cancel_requested', sa.Boolean(), nullable=False),
    sa.Column('exit_code', sa.BigInteger(), nullable=True),
    sa.Column('signal', sa.BigInteger(), nullable=True),
    sa.Column('reason', sa.String(length=1024), nullable=True),
    sa.Column('submit_time', sa.BigInteger(), nullable=False),
    sa.Column('start_time', sa.BigInteger(), nullable=True),
    sa.Column('end_time', sa.BigInteger(), nullable=True),
    sa.Column('stdout_bytes', sa.BigInteger(), nullable=False),
    sa.Column('stderr_bytes', sa.BigInteger(), nullable=False),
    sa.ForeignKeyConstraint(['workspace_id'], ['workspaces.workspace_id'], name=op.f('fk_commands_workspace_id_workspaces')),
    sa.PrimaryKeyConstraint('workspace_id', 'command_id', name=op.f('pk_commands'))
    )
    with op.batch_alter_table('commands', schema=None) as batch_op:
        batch_op.create_index(batch_op.f('ix_commands_final_end_time'), ['final', 'end_time'], unique=False)
        batch_op.create_index(batch_op.f('ix_commands_node_id'), ['node_id'], unique=False)
        batch_op.create_index(batch_op.f('ix_commands_workspace_id_submission_id'), ['workspace_id', 'submission_id'], unique=False)
        batch_op.create_index(batch_op.f('ix_commands_workspace_id_submit_time_command_id'), ['workspace_id', 'submit_time', 'command_id'], unique=False)

    op.create_table('nodes',
    sa.Column('node_id', sa.String(length=255), nullable=False),
    sa.Column('workspace_id', sa.String(length=255), nullable=False),
    sa.Column('node', sa.String(length=255), nullable=False),
    sa.Column('attested_as', sa.String(length=1024), nullable=True),
    sa.Column('sealing_key', sa.String(length=255), nullable=False),
    sa.Column('agent_version', sa.String(length=255), nullable=False),
    sa.Column('host', sa.String(length=255), nullable=True),
    sa.Column('state', sa.String(length=255), nullable=False),
    sa.Column('state_reason', sa.String(length=1024), nullable=True),
    sa.Column('state_time', sa.BigInteger(), nullable=False),
    sa.Column('health', sa.JSON(), nullable=True),
    sa.Column('health_time', sa.BigInteger(), nullable=True),
    sa.Column('creation_time', sa.BigInteger(), nullable=False),
    sa.Column('confirm_time', sa.BigInteger(), nullable=True),
    sa.Column('last_seen_time', sa.BigInteger(), nullable=True),
    sa.Column('relay_id', sa.String(length=255), nullable=True),
    sa.Column('trust_sequence', sa.BigInteger(), nullable=True),
    sa.ForeignKeyConstraint(['workspace_id'], ['workspaces.workspace_id'], name=op.f('fk_nodes_workspace_id_workspaces')),
    sa.PrimaryKeyConstraint('node_id', name=op.f('pk_nodes')),
    sa.UniqueConstraint('workspace_id', 'attested_as', name=op.f('uq_nodes_workspace_id_attested_as')),
    sa.UniqueConstraint('workspace_id', 'node', name=op.f('uq_nodes_workspace_id_node'))
    )
    op.create_table('submissions',
    sa.Column('workspace_id', sa.String(length=255), nullable=False),
    sa.Column('submission_id', sa.String(length=255), nullable=False),
    sa.Column('body_sha256', sa.String(length=255), nullable=False),
    sa.Column('argv', sa.JSON(), nullable=False),
    sa.Column('spec', sa.JSON(), nullable=True),
    sa.Column('submitted_by', sa.String(length=255), nullable=False),
    sa.Column('creation_time', sa.BigInteger(), nullable=False),
    sa.ForeignKeyConstraint(['workspace_id'], ['workspaces.workspace_id'], name=op.f('fk_submissions_workspace_id_workspaces')),
    sa.PrimaryKeyConstraint('workspace_id', 'submission_id', name=op.f('pk_submissions'))
    )
    op.create_table('cluster_members',
    sa.Column('cluster_id', sa.String(length=255), nullable=False),
    sa.Column('node_id', sa.String(length=255), nullable=False),
    sa.ForeignKeyConstraint(['cluster_id'], ['clusters.cluster_id'], name=op.f('fk_cluster_members_cluster_id_clusters'), ondelete='CASCADE'),
    sa.ForeignKeyConstraint(['node_id'], ['nodes.node_id'], name=op.f('fk_cluster_members_node_id_nodes'), ondelete='CASCADE'),
    sa.PrimaryKeyConstraint('cluster_id', 'node_id', name=op.f('pk_cluster_members'))
    )
    with op.batch_alter_table('cluster_members', schema=None) as batch_op:
        batch_op.create_index(batch_op.f('ix_cluster_members_node_id'), ['node_id'], unique=False)

    op.create_table('health_observations',
    sa.Column('observation_id', sa.BigInteger().with_variant(sa.Integer(), 'sqlite'), autoincrement=True, nullable=False),
    sa.Column('node_id', sa.String(length=255), nullable=False),
    sa.Column('time', sa.BigInteger(), nullable=False),
    sa.Column('state', sa.String(length=255), nullable=False),
    sa.Column('result', sa.String(length=255), nullable=False),
    sa.Column('reason', sa.String(length=1024), nullable=True),
    sa.Column('rtt_milliseconds', sa.BigInteger(), nullable=True),
    sa.ForeignKeyConstraint(['node_id'], ['nodes.node_id'], name=op.f('fk_health_observations_node_id_nodes'), ondelete='CASCADE'),
    sa.PrimaryKeyConstraint('observation_id', name=op.f('pk_health_observations'))
    )
    with op.batch_alter_table('health_observations', schema=None) as batch_op:
        batch_op.create_index(batch_op.f('ix_health_observations_node_id_observation_id'), ['node_id', 'observation_id'], unique=False)
        batch_op.create_index(batch_op.f('ix_health_observations_time'), ['time'], unique=False)

    op.create_table('join_tokens',
    sa.Column('join_token_id', sa.String(length=255), nullable=False),
    sa.Column('workspace_id', sa.String(length=255), nullable=False),
    sa.Column('token_sha256', sa.String(length=255), nullable=False),
    sa.Column('node_name', sa.String(length=255), nullable=True),
    sa.Column('labels', sa.JSON(), nullable=False),
    sa.Column('cluster_id', sa.String(length=255), nullable=True),
    sa.Column('uses', sa.BigInteger(), nullable=False),
    sa.Column('used', sa.BigInteger(), nullable=False),
    sa.Column('expire_time', sa.BigInteger(), nullable=False),
    sa.Column('creation_time', sa.BigInteger(), nullable=False),
    sa.ForeignKeyConstraint(['cluster_id'], ['clusters.cluster_id'], name=op.f('fk_join_tokens_cluster_id_clusters'), ondelete='SET NULL'),
    sa.ForeignKeyConstraint(['workspace_id'], ['workspaces.workspace_id'], name=op.f('fk_join_tokens_workspace_id_workspaces')),
    sa.PrimaryKeyConstraint('join_token_id', name=op.f('pk_join_tokens')),
    sa.UniqueConstraint('token_sha256', name=op.f('uq_join_tokens_token_sha256'))
    )
    with op.batch_alter_table('join_tokens', schema=None) as batch_op:
        batch_op.create_index(batch_op.f('ix_join_tokens_workspace_id'), ['workspace_id'], unique=False)

    op.create_table('node_labels',
    sa.Column('node_id', sa.String(length=255), nullable=False),
    sa.Column('label', sa.String(length=255), nullable=False),
    sa.Column('label_value', sa.String(length=255), nullable=False),
    sa.ForeignKeyConstraint(['node_id'], ['nodes.node_id'], name=op.f('fk_node_labels_node_id_nodes'), ondelete='CASCADE'),
    sa.PrimaryKeyConstraint('node_id', 'label', name=op.f('pk_node_labels'))
    )
    with op.batch_alter_table('node_labels', schema=None) as batch_op:
        batch_op.create_index(batch_op.f('ix_node_labels_label_label_value'), ['label', 'label_value'], unique=False)
    _make_audit_append_only()


def _make_audit_append_only() -> None:
    if op.get_bind().dialect.name == "sqlite":
        statements = [SQLITE_TRIGGER.format(verb) for verb in ("UPDATE", "DELETE")]
    else:
        statements = list(POSTGRESQL_TRIGGER)
    for statement in statements:
        op.execute(statement)
