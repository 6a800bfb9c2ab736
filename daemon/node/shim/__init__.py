"""The shim: one small process per attempt on a node, which runs the tasks and outlives the agent.

Starts without site packages, by ``python -I -S``; only modules of the standard library that load in a millisecond are
imported here (no ``json``, ``dataclasses``, ``enum``, ``pathlib``, ``typing``), so that it costs about 15 ms and 12 MB.
"""
