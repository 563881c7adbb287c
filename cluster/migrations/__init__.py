"""The database's history, as Alembic migrations. Run them with `cluster.storage.upgrade`."""
