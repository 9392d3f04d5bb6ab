"""Indices by which commands are found in a history of a million of them."""

from alembic import op

revision = '0014'
down_revision = '0013'
branch_labels = None
depends_on = None

NEW = (
    ('submission_id', 'workspace_id', 'final', 'delivered'),
    ('workspace_id', 'state', 'submit_time', 'command_id'),
    ('workspace_id', 'node', 'submit_time', 'command_id'),
    ('node_id', 'submit_time', 'command_id'),
)
OLD = (('workspace_id', 'submission_id'), ('node_id',))


def upgrade() -> None:
    _replace(OLD, NEW)


def downgrade() -> None:
    _replace(NEW, OLD)


def _replace(before: tuple[tuple[str, ...], ...], after: tuple[tuple[str, ...], ...]) -> None:
    with op.batch_alter_table('commands', schema=None) as batch_op:
        for columns in before:
            batch_op.drop_index(batch_op.f(f"ix_commands_{'_'.join(columns)}"))
        for columns in after:
            batch_op.create_index(batch_op.f(f"ix_commands_{'_'.join(columns)}"), list(columns), unique=False)
