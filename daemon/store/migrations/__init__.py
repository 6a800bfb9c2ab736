"""Steps from an empty database to the tables of ``schema``, run by Alembic when a daemon opens its store."""
