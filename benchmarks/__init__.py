"""Measured speed. ``python -m benchmarks.run`` prints a table and one JSON document; see docs/reference/benchmarks.md."""
