"""The agent of a node: telemetry, and jobs as process groups. Imports nothing that decides."""
