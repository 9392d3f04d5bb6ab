"""An index that has the sizes of kept outputs in the order in which they are let go."""

from alembic import op

revision = '0016'
down_revision = '0015'
branch_labels = None
depends_on = None

NEW = (('state', 'keep_time', 'kept_bytes'),)
OLD = (('keep_time',), ('state', 'keep_time'))


def upgrade() -> None:
    _replace(OLD, NEW)


def downgrade() -> None:
    _replace(NEW, OLD)


def _replace(before: tuple[tuple[str, ...], ...], after: tuple[tuple[str, ...], ...]) -> None:
    with op.batch_alter_table('kept_outputs', schema=None) as batch_op:
        for columns in before:
            batch_op.drop_index(batch_op.f(f"ix_kept_outputs_{'_'.join(columns)}"))
        for columns in after:
            batch_op.create_index(batch_op.f(f"ix_kept_outputs_{'_'.join(columns)}"), list(columns), unique=False)
