"""Every series of the metrics endpoint, in one table: ``docs/reference/live-metrics.md`` is made of it.

Base units stand in the names. No label has an unbounded set of values: there is no id of a job and no name of a user;
``node`` and ``gpu`` are bounded by ``metrics.max_nodes``.
"""

from __future__ import annotations

from typing import NamedTuple

COUNTER, GAUGE, HISTOGRAM = "counter", "gauge", "histogram"


class Series(NamedTuple):
    """One series; counters' names end in ``_total``."""

    name: str
    kind: str
    labels: tuple[str, ...]
    unit: str
    help: str
    source: str  # where the value comes from


TABLE: tuple[Series, ...] = (
    # jobs
    Series("shunter_jobs", GAUGE, ("queue", "class", "state"), "jobs", "Jobs that have not ended; classes beyond 32 are told as `other`", "live state"),
    Series("shunter_waiting_oldest_seconds", GAUGE, ("queue",), "s", "Longest time that a job has been waiting since it last entered the queue", "live state"),
    Series("shunter_job_wait_seconds", HISTOGRAM, ("queue",), "s", "From submission to the first start", "event log"),
    Series("shunter_jobs_submitted_total", COUNTER, (), "jobs", "Jobs taken in", "event log"),
    Series("shunter_jobs_ended_total", COUNTER, ("state",), "jobs", "Jobs that have ended, by how", "event log"),
    Series("shunter_assignments_total", COUNTER, (), "attempts", "Attempts that were given nodes", "event log"),
    Series("shunter_requeues_total", COUNTER, ("cause",), "attempts", "Attempts after which a job waits again, by cause", "event log"),
    # decisions
    Series("shunter_decision_seconds", HISTOGRAM, ("stage",), "s", "Time of a decision by stage: snapshot, plan, check, commit, store", "leader"),
    Series("shunter_decisions_total", COUNTER, (), "decisions", "Decisions that were carried out", "leader"),
    Series("shunter_decisions_refused_total", COUNTER, (), "decisions", "Plans that no longer fitted when they came, and were made again", "leader"),
    Series("shunter_planner_failures_total", COUNTER, (), "decisions", "Decisions that could not be computed", "leader"),
    Series("shunter_last_decision_timestamp_seconds", GAUGE, (), "s", "When the last decision was carried out; absent before the first", "leader"),
    Series("shunter_jobs_skipped", GAUGE, ("reason",), "jobs", "Jobs that the last decision left waiting, by reason", "leader"),
    Series("shunter_policy_mode", GAUGE, ("mode",), "1", "1 for the mode that is on: heuristic, shadow or active", "leader"),
    Series("shunter_guard_orders_total", COUNTER, ("reason",), "orders", "Learned orders by what the guard made of them", "leader"),
    Series("shunter_shadow_regret_ratio", GAUGE, (), "1", "What the other order would have cost, over the one followed; absent until it is known", "leader.figures"),
    Series("shunter_forecast_error_ratio", GAUGE, ("forecast",), "1", "Error of a forecast over that of its baseline; absent until it is known", "leader.figures"),
    Series("shunter_forecast_coverage_ratio", GAUGE, ("forecast",), "1", "Share of values inside the interval; absent until it is known", "leader.figures"),
    # nodes
    Series("shunter_nodes", GAUGE, ("health",), "nodes", "Nodes by health", "live state"),
    Series("shunter_nodes_open", GAUGE, (), "nodes", "Nodes that take new work", "live state"),
    Series("shunter_nodes_left_out", GAUGE, (), "nodes", "Nodes without series of their own, see metrics.max_nodes", "configuration"),
    Series("shunter_cpus", GAUGE, (), "CPUs", "CPUs of nodes that have not failed", "live state"),
    Series("shunter_cpus_allocated", GAUGE, (), "CPUs", "Of them, held by jobs", "live state"),
    Series("shunter_gpus", GAUGE, (), "GPUs", "GPUs of nodes that have not failed", "live state"),
    Series("shunter_gpus_allocated", GAUGE, (), "GPUs", "Of them, held by jobs", "live state"),
    Series("shunter_gpus_failed", GAUGE, (), "GPUs", "GPUs out of service", "live state"),
    Series("shunter_memory_bytes", GAUGE, (), "bytes", "Memory of nodes that have not failed", "live state"),
    Series("shunter_memory_allocated_bytes", GAUGE, (), "bytes", "Of it, held by jobs", "live state"),
    Series("shunter_agents_connected", GAUGE, (), "agents", "Agents with an open session", "sessions"),
    Series("shunter_heartbeats_total", COUNTER, (), "heartbeats", "Heartbeats that agents sent", "sessions"),
    Series("shunter_telemetry_samples_total", COUNTER, (), "samples", "Samples that agents sent", "telemetry"),
    Series("shunter_node_silence_seconds", GAUGE, ("node",), "s", "Time since the agent was heard", "live state"),
    Series("shunter_node_cpu_utilisation_ratio", GAUGE, ("node",), "1", "Share of CPU time in use", "telemetry"),
    Series("shunter_node_memory_used_bytes", GAUGE, ("node",), "bytes", "Memory in use", "telemetry"),
    Series("shunter_node_disk_free_bytes", GAUGE, ("node",), "bytes", "Free space of the agent's disk", "telemetry"),
    Series("shunter_node_network_receive_bytes_per_second", GAUGE, ("node",), "bytes/s", "Received", "telemetry"),
    Series("shunter_node_network_transmit_bytes_per_second", GAUGE, ("node",), "bytes/s", "Sent", "telemetry"),
    Series("shunter_gpu_utilisation_ratio", GAUGE, ("node", "gpu"), "1", "Share of the last period in which any kernel ran", "telemetry"),
    Series("shunter_gpu_memory_used_bytes", GAUGE, ("node", "gpu"), "bytes", "Memory in use", "telemetry"),
    Series("shunter_gpu_temperature_celsius", GAUGE, ("node", "gpu"), "°C", "Temperature", "telemetry"),
    Series("shunter_gpu_power_watts", GAUGE, ("node", "gpu"), "W", "Power", "telemetry"),
    Series("shunter_gpu_sm_clock_hertz", GAUGE, ("node", "gpu"), "Hz", "Clock of the multiprocessors", "telemetry"),
    Series("shunter_gpu_ecc_corrected_total", COUNTER, ("node", "gpu"), "errors", "Memory errors that were corrected", "telemetry"),
    Series("shunter_gpu_ecc_uncorrected_total", COUNTER, ("node", "gpu"), "errors", "Memory errors that were not", "telemetry"),
    Series("shunter_gpu_fault", GAUGE, ("node", "gpu"), "1", "1: the GPU does not answer", "telemetry"),
    # failover
    Series("shunter_node_failures_total", COUNTER, (), "nodes", "Nodes that were given up", "event log"),
    Series("shunter_failovers_total", COUNTER, ("cause",), "jobs", "Jobs that lost their nodes and wait again: node-failed, gpu-failed, lost, drained", "event log"),
    Series("shunter_failover_seconds", HISTOGRAM, ("cause",), "s", "From there until the job runs again", "event log"),
    Series("shunter_evictions_held", GAUGE, (), "jobs", "Jobs that would be moved and are not, because too many would be at once; absent until the health machine speaks", "leader.figures"),
    # calls
    Series("shunter_rpc_total", COUNTER, ("method", "code"), "calls", "Calls that have ended, by status code", "guard"),
    Series("shunter_rpc_seconds", HISTOGRAM, ("method",), "s", "Their duration; of streams from begin to end", "guard"),
    # store
    Series("shunter_store_seconds", HISTOGRAM, (), "s", "Duration of a transaction", "store"),
    Series("shunter_store_group_rows", HISTOGRAM, (), "rows", "Rows of a transaction", "store"),
    Series("shunter_store_failures_total", COUNTER, (), "transactions", "Transactions that failed", "store"),
    Series("shunter_store_failing", GAUGE, (), "1", "1: nothing can be stored now, and submissions are refused", "leader"),
    Series("shunter_store_reloads_total", COUNTER, (), "reloads", "Times that the state was made anew after the store had failed", "leader"),
    # the daemon
    Series("shunter_leader", GAUGE, (), "1", "1: this daemon decides", "leader"),
    Series("shunter_fencing_token", GAUGE, (), "1", "Token of this daemon's last term", "leader"),
    Series("shunter_last_event_number", GAUGE, (), "1", "Number of the last event", "live state"),
    Series("shunter_certificate_end_timestamp_seconds", GAUGE, (), "s", "When the daemon's certificate ends; absent without TLS", "certificate"),
    Series("process_cpu_seconds_total", COUNTER, (), "s", "CPU time of the daemon's process", "prometheus-client"),
    Series("process_resident_memory_bytes", GAUGE, (), "bytes", "Its memory", "prometheus-client"),
    Series("process_virtual_memory_bytes", GAUGE, (), "bytes", "Its address space", "prometheus-client"),
    Series("process_start_time_seconds", GAUGE, (), "s", "When it was started", "prometheus-client"),
    Series("process_open_fds", GAUGE, (), "files", "Open files", "prometheus-client"),
    Series("process_max_fds", GAUGE, (), "files", "How many may be open", "prometheus-client"),
)  # fmt: skip
BY_NAME = {series.name: series for series in TABLE}
