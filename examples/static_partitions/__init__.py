"""Static partitions against one shared pool with quotas: ``python -m examples.static_partitions``.

The field's claim for sharing GPUs between teams: utilisation from 62 to 89 %, waiting −62 %, cost of useful work −60 %.
Here it is replayed on Philly, where every virtual cluster (the ``group`` of a job) either owns its nodes or is
guaranteed as many GPUs of one pool, borrows what others leave idle, and gives it back by preemption.

Rules, none of which looks at the weeks that are measured:

* The first five weeks are for calibration: the GPUs that each virtual cluster would have held, had nobody waited, on
  average over the last three of them. (Before, most virtual clusters are not in the log.)
* Nodes of 8 GPUs, so many that this demand would be ``load`` of them; shared out in proportion to demand, and at least
  what the largest gang seen so far needs. Several loads are tried.
* Measured are all full weeks that follow, ten, each on its own: replayed from an empty cluster with the week before it
  as warm-up, its jobs run to their ends. Intervals (95 %) resample the weeks, paired between the arms.
* A preempted job gets a minute to save its work, loses none, and needs five minutes to restart.
* Waiting includes waiting after a preemption. Cost is that of all nodes over the week, over the GPU-hours that jobs
  worked in it, restarts excluded: it does not depend on the makespan.

The log does not say what users asked for: EASY, SJF and SRTF know the true run times, in every arm alike; FCFS
needs none. Without the log a generated trace is used instead, and the report says so.
"""
