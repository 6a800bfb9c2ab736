"""How good start times are: ``python -m examples.start_times [LOG …]``.

A log is replayed; once a day (``--every``) everybody who waits is told when they will start: by rolls of the present
under drawn run times and arrivals, and as Slurm tells it, by one roll in which every job takes what it asked for and
nobody else comes. What the replay then does is the truth. Estimates know nothing but what has happened by then.
"""
