"""Measured speed: ``python -m benchmarks.run`` prints a table and a JSON document (docs/reference/benchmarks.md)."""
