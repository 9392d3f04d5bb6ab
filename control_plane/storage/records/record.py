"""What all tables stand on: how constraints are named, and which types their columns have.

Times are integer milliseconds since the epoch. Only SQL that SQLite and PostgreSQL both know is used. Secrets
(operator, join and relay join tokens) are in tables as SHA-256 hashes only: they are 256 random bits, so a slow hash
would add nothing.
"""

from typing import Any

from sqlalchemy import JSON, BigInteger, Integer, MetaData, String
from sqlalchemy.orm import DeclarativeBase

NAMING = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
    "pk": "pk_%(table_name)s",
}
# SQLite numbers rows by itself only where the key's type is INTEGER.
COUNTER = BigInteger().with_variant(Integer(), "sqlite")


class Record(DeclarativeBase):
    """The base of all tables."""

    metadata = MetaData(naming_convention=NAMING)
    type_annotation_map = {  # noqa: RUF012 - SQLAlchemy reads it from the class
        int: BigInteger(),
        str: String(255),
        dict[str, str]: JSON(),
        dict[str, Any]: JSON(),
        list[str]: JSON(),
    }
