"""The history of calls: tables, queries, the live feed."""
