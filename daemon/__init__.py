"""The live cluster: the gRPC daemon that decides with ``scheduler.plan``, its store, and the agent of a node.

Imports nothing of the project but ``scheduler``. What was learned (forecasts, policies, start times) reaches it as
functions that the command line hands in.
"""
