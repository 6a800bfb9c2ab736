"""The daemon's configuration: one YAML file, checked whole before anything begins.

Every key has a default; a file names only what differs. ``example()`` writes all of them with their explanations, which
are the descriptions here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from enum import Enum
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from shunter.daemon.health_rules import FailoverRules, LeaseRules
from shunter.daemon.leader import Conduct
from shunter.daemon.planner import Rules
from shunter.daemon.policies import Mode, ModelRules
from shunter.daemon.service.scheduler import Limits
from shunter.daemon.snapshots import GroupRules
from shunter.daemon.specs import MAX_SPAN_S, NAME, QueueRules
from shunter.scheduler.errors import ConfigError
from shunter.scheduler.yaml_files import clauses, read_mapping

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Amount = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=1)]
Ratio = Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)]
Xid = Annotated[int, Field(ge=0, le=100_000)]
Name = Annotated[str, Field(pattern=NAME.pattern.removesuffix(r"\Z") + "$", min_length=1)]


class Section(BaseModel):
    """Settings that belong together; unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Scheduling(Section):
    """How decisions are made."""

    policy: str = Field(default="fcfs", description="Order of the queue; `shunter simulate --help` lists them.")
    mode: Mode = Field(
        default=Mode.HEURISTIC,
        description="Who decides: heuristic (the policy), shadow (it, with the learned order compared), active (the "
        "learned order, under its guard). What an operator sets holds until this or the model changes.",
    )
    model: str = Field(default="learned", description="learned, tuned-linear, model:FOLDER or a name of the registry.")
    guard: str = Field(default="", description="Settings of the model's guard, as bound_h=24,outside=0.25.")
    model_limit_s: Positive = Field(default=5.0, description="A decision by the model that takes longer is given up.")
    model_budget_s: Positive = Field(
        default=1.0, description="After three slower ones the heuristic decides a hundred times."
    )
    keep_decisions: Annotated[int, Field(ge=0)] = Field(
        default=200, description="Decisions kept with all that they were made from; 256 MB of them at most."
    )
    backfill: str = Field(default="easy", description="none, easy, easy-sjbf or conservative.")
    placement: str = Field(default="best-fit", description="Which nodes a job gets.")
    depth: Annotated[int, Field(ge=0)] = Field(
        default=0, description="Jobs behind the head that a pass looks at; 0 means all."
    )
    locality_s: Amount = Field(default=0.0, description="Longest that a gang waits for nodes nearer together.")
    weights: Literal["queues", "groups", "none"] = Field(
        default="queues",
        description="Whose weights share what is not guaranteed, inside a priority class; where groups have quotas, "
        "queues have no weights.",
    )
    preempt: tuple[str, ...] = Field(
        default=(), description="Who may stop running jobs: policy, priority, quota; empty: nobody."
    )
    min_run_s: Amount = Field(default=60.0, description="A job is left alone for so long after it started.")
    grace_s: Positive = Field(default=10.0, description="Time that a job gets to save its work before it makes way.")
    queue_depth: Count = Field(default=10_000, description="Waiting jobs that one decision is told of, first by class.")
    min_interval_s: Amount = Field(
        default=0.02, description="Pause between two decisions; what happens in it is decided together."
    )


class Queue(Section):
    """One queue."""

    name: Name = Field(description="Name. The first queue of the file is the default one.")
    priority: int = Field(default=0, description="Class of its jobs: a higher one goes first, always.")
    max_priority: int = Field(default=1000, description="What a job may add to it at most.")
    weight: Positive = Field(
        default=1.0, description="Share of what queues of its class get when all of them have work."
    )
    default_time_limit_s: Positive = Field(default=86400.0, description="Of jobs that name none.")
    max_time_limit_s: Positive = Field(default=MAX_SPAN_S, description="Of any job.")
    default_grace_s: Amount = Field(
        default=10.0, description="From the signal that asks a job to stop to the one that ends it."
    )
    is_open: bool = Field(default=True, description="Whether its jobs are started.")
    is_accepting: bool = Field(default=True, description="Whether it takes jobs.")


class Group(Section):
    """What a group may hold of the scarce resource: GPUs, or CPUs on a cluster without."""

    name: Name = Field(description="Name, as jobs give it with --group.")
    guaranteed: Amount = Field(
        default=0.0, description="Its own: others that borrow it give it back (preempt: [quota])."
    )
    limit: Annotated[float, Field(ge=0)] = Field(default=float("inf"), description="What it may hold at most.")
    weight: Positive = Field(default=1.0, description="Share of what nobody is guaranteed (weights: groups).")


class Leases(Section):
    """When a silent node is suspected, and when its jobs are started elsewhere."""

    heartbeat_s: Positive = Field(default=3.0, description="How often an agent is heard.")
    suspect_s: Positive = Field(
        default=7.0, description="Silence after which a node gets no new work, with failover.detector: fixed."
    )
    lease_s: Positive = Field(default=9.0, description="An agent stops its jobs when nobody answered it for so long.")
    margin_s: Positive = Field(
        default=1.0, description="What stopping them takes; after both its jobs start elsewhere."
    )
    probation_s: Amount = Field(
        default=10.0, description="A node that had failed gets no work for so long after it came back."
    )


class Failover(Section):
    """What is concluded from telemetry and from jobs that fail, and what follows: docs/reference/failover.md."""

    detector: Literal["fixed", "phi"] = Field(
        default="fixed", description="A node is suspect after leases.suspect_s, or by how regular it was (phi)."
    )
    phi_window: Annotated[int, Field(ge=10, le=10_000)] = Field(
        default=100, description="Heartbeats of a node that the phi detector remembers."
    )
    phi_threshold: Annotated[float, Field(ge=1, le=15)] = Field(
        default=8.0, description="Suspicion of a suspect node: wrong once in 10 to the power of it heartbeats."
    )
    phi_min_deviation_s: Positive = Field(
        default=0.5, description="Least deviation of the times between heartbeats that is believed."
    )
    blast_radius: Ratio = Field(
        default=0.3, description="Share of nodes, running jobs and their GPUs evicted at once; the rest is held."
    )
    blast_window_s: Positive = Field(
        default=60.0, description="An evicted job that does not run again counts against it for so long."
    )
    thermal_limit_c: Annotated[float, Field(ge=40, le=150)] = Field(
        default=90.0, description="A GPU is too hot from here on; look up its slowdown temperature."
    )
    thermal_hysteresis_c: Annotated[float, Field(gt=0, le=60)] = Field(
        default=10.0, description="It has cooled so many degrees below the limit."
    )
    thermal_samples: Count = Field(default=3, description="Samples in a row that make a GPU hot, or cool.")
    fault_samples: Count = Field(
        default=2, description="Samples in a row in which a GPU hangs, or NVML is gone, before it counts."
    )
    fatal_xids: tuple[Xid, ...] = Field(default=(), description="Xids that take a GPU out of service too.")
    ignored_xids: tuple[Xid, ...] = Field(default=(), description="Xids of the table of which nothing follows.")
    gpu_probation_s: Amount = Field(default=600.0, description="A GPU that is back gets no work for so long.")
    node_gpu_share: Ratio = Field(
        default=0.5, description="Share of a node's GPUs out of service from which the whole node drains."
    )
    black_hole_jobs: Annotated[int, Field(ge=2, le=32)] = Field(
        default=5, description="A node drains when so many jobs failed there in a row ..."
    )
    black_hole_kinds: Count = Field(default=2, description="... of so many different owners or names ...")
    black_hole_start_s: Positive = Field(default=60.0, description="... each so soon after its start ...")
    black_hole_window_s: Positive = Field(
        default=600.0, description="... within so long, while such jobs end well elsewhere."
    )
    flapping_failures: Annotated[int, Field(ge=1, le=16)] = Field(
        default=3, description="A node that failed so often ..."
    )
    flapping_window_s: Positive = Field(default=24 * 3600.0, description="... within so long ...")
    flapping_probation_s: Positive = Field(default=3600.0, description="... is held out for so long when it is back.")


class UserLimits(Section):
    """What users may ask for."""

    jobs_per_user: Count = Field(default=1_000_000, description="Jobs of one user that have not ended.")
    batch: Count = Field(default=10_000, description="Jobs of one call, or of one array.")


class Retention(Section):
    """What is forgotten, and when."""

    jobs_days: Positive = Field(default=90.0, description="Jobs that ended so long ago, and keys used so long ago.")
    events: Count = Field(default=5_000_000, description="Newest events that are kept, whatever their age.")
    every_s: Positive = Field(default=3600.0, description="How often it is looked for what is to be forgotten.")


class Tls(Section):
    """Encryption, and certificates of callers."""

    cert: str = Field(default="", description="The daemon's certificate (PEM); empty: no TLS.")
    key: str = Field(default="", description="Its private key, which only the daemon's user may read.")
    client_ca: str = Field(
        default="",
        description="Who signs callers' certificates: then each needs one. Empty: tokens prove who calls.",
    )


class RateLimits(Section):
    """How often somebody may call; more is refused with RESOURCE_EXHAUSTED."""

    user_calls_per_s: Positive = Field(default=10_000.0, description="Calls of one user in the long run.")
    user_burst: Annotated[float, Field(ge=1, allow_inf_nan=False)] = Field(
        default=20_000.0, description="Calls of one user at once after a pause."
    )
    all_calls_per_s: Positive = Field(default=20_000.0, description="Calls of all together in the long run.")
    all_burst: Annotated[float, Field(ge=1, allow_inf_nan=False)] = Field(
        default=40_000.0, description="Calls of all together at once."
    )
    user_streams: Count = Field(default=200, description="Open streams (watching, logs) of one viewer or submitter.")


class Security(Section):
    """Who may call, and how often."""

    insecure: bool = Field(
        default=False, description="Serve other machines without TLS: whoever is on the way reads tokens and jobs."
    )
    tls: Tls = Field(default_factory=Tls, description="Encryption; needed for addresses that other machines reach.")
    tokens: str = Field(default="", description="File of the tokens; empty: tokens.json in the state folder.")
    local_token: bool = Field(
        default=True,
        description="On a loopback address: clients of the daemon's own user on this machine need no token.",
    )
    audit_mib: Positive = Field(default=16.0, description="The audit log turns over at this size, in MiB.")
    audit_files: Count = Field(default=8, description="Older files of the audit log that are kept.")
    rates: RateLimits = Field(default_factory=RateLimits, description="How often somebody may call.")


class Metrics(Section):
    """Figures for Prometheus."""

    listen: str = Field(
        default="",
        description="Address and port of the endpoint, usually 127.0.0.1:9464; empty: none. It asks nobody who calls.",
    )
    max_nodes: Annotated[int, Field(ge=0)] = Field(
        default=1000, description="Nodes with series of their own, first by name; the rest is in the totals only."
    )


class Config(Section):
    """All of it."""

    listen: str = Field(default="127.0.0.1:7070", description="Address and port of the gRPC services.")
    store: str = Field(default="", description="URL of the database; empty: SQLite in the state folder.")
    telemetry_s: Positive = Field(default=5.0, description="How often agents send samples.")
    scheduling: Scheduling = Field(default_factory=Scheduling, description="How decisions are made.")
    queues: tuple[Queue, ...] = Field(default=(Queue(name="default"),), description="Queues.", min_length=1)
    groups: tuple[Group, ...] = Field(default=(), description="Quotas of groups; a group that is not named has none.")
    leases: Leases = Field(default_factory=Leases, description="Nodes that fall silent.")
    retention: Retention = Field(default_factory=Retention, description="What is forgotten, and when.")
    failover: Failover = Field(
        default_factory=Failover, description="Other signs of bad health, and how much is evicted at once."
    )
    limits: UserLimits = Field(default_factory=UserLimits, description="Of users.")
    security: Security = Field(default_factory=Security, description="Who may call, and how often.")
    metrics: Metrics = Field(default_factory=Metrics, description="Figures for Prometheus.")

    @model_validator(mode="after")
    def _fits_together(self) -> Config:
        problems = list(_pair_problems(self))
        if problems:
            from pydantic_core import PydanticCustomError

            raise PydanticCustomError("problems", "{problems}", {"problems": problems})
        return self


def _pair_problems(config: Config) -> list[tuple[str, str]]:
    """(path, what is wrong) of settings that do not fit together."""
    problems, leases = [], config.leases
    if leases.lease_s < 2 * leases.heartbeat_s + 1:
        problems.append(
            ("leases.lease_s", f"{leases.lease_s:g} must be at least 2 heartbeats ({leases.heartbeat_s:g}) + 1 s")
        )
    if not leases.heartbeat_s < leases.suspect_s < leases.lease_s + leases.margin_s:
        problems.append(
            ("leases.suspect_s", f"{leases.suspect_s:g} must lie between heartbeat_s and lease_s + margin_s")
        )
    problems += _failover_problems(config.failover, leases)
    for section in ("queues", "groups"):
        names = [item.name for item in getattr(config, section)]
        problems += [
            (f"{section}", f"{name!r} stands twice") for name in sorted({n for n in names if names.count(n) > 1})
        ]
    for i, queue in enumerate(config.queues):
        if queue.default_time_limit_s > queue.max_time_limit_s and "default_time_limit_s" in queue.model_fields_set:
            problems.append((f"queues[{i}].default_time_limit_s", "is above max_time_limit_s"))
    for i, group in enumerate(config.groups):
        if group.guaranteed > group.limit:
            problems.append((f"groups[{i}].guaranteed", "is above limit"))
    said = config.scheduling
    differ = len({queue.weight for queue in config.queues}) > 1
    if config.groups and differ and said.weights == "queues":
        problems.append(("scheduling.weights", "groups have quotas: weights of queues do not go with them"))
    if said.backfill == "conservative" and (config.groups or differ):
        problems.append(("scheduling.backfill", "conservative knows no quotas of groups and no weights of queues"))
    for path, address in (("listen", config.listen), ("metrics.listen", config.metrics.listen or "localhost:0")):
        host, _, port = address.rpartition(":")
        if not host or not port.isdecimal() or not port.isascii() or len(port) > 5 or int(port) > 65535:
            problems.append((path, f"expected HOST:PORT, got {address!r}"))
    tls = config.security.tls
    if bool(tls.cert) != bool(tls.key):
        problems.append(("security.tls.cert", "needs security.tls.key, and the other way round"))
    if tls.client_ca and not tls.cert:
        problems.append(("security.tls.client_ca", "needs security.tls.cert and security.tls.key"))
    return problems


def _failover_problems(failover: Failover, leases: Leases) -> list[tuple[str, str]]:
    problems = []
    both = sorted(set(failover.fatal_xids) & set(failover.ignored_xids))
    if both:
        problems.append(("failover.ignored_xids", f"{both} stand among fatal_xids too"))
    if failover.black_hole_kinds > failover.black_hole_jobs:
        problems.append(
            ("failover.black_hole_kinds", f"{failover.black_hole_kinds} is above black_hole_jobs, so never reached")
        )
    if failover.black_hole_start_s > failover.black_hole_window_s:
        problems.append(("failover.black_hole_start_s", "is above black_hole_window_s"))
    if failover.flapping_probation_s < leases.probation_s:
        problems.append(
            ("failover.flapping_probation_s", f"{failover.flapping_probation_s:g} is below leases.probation_s")
        )
    return problems


def read_config(path: Path | None, overrides: Mapping[str, Any] | None = None) -> Config:
    """The configuration of a file, or the defaults, with what the command line says on top.

    Raises:
        ConfigError: All problems at once, each with its path.
    """
    content = {} if path is None else read_mapping(path, may_be_empty=True)
    where = "the defaults" if path is None else str(path)
    return checked({**content, **{k: v for k, v in (overrides or {}).items() if v is not None}}, where)


def checked(content: Mapping[str, Any], where: str) -> Config:
    """Plain values as a configuration.

    Raises:
        ConfigError: As above; also names of policies and placements that do not exist.
    """
    from shunter.daemon.planner import settings_of
    from shunter.scheduler import choose_ordering
    from shunter.scheduler.errors import ShunterError

    try:
        config = Config.model_validate(content)
    except ValidationError as problem:
        raise ConfigError(f"{where}: " + "; ".join(clauses(problem.errors(), _keys_at))) from None
    except RecursionError:
        raise ConfigError(f"{where}: is nested too deeply") from None
    try:
        settings_of(rules_of(config), _known_name)
        choose_ordering(f"learned:{config.scheduling.guard}")
    except ShunterError as problem:
        raise ConfigError(f"{where}: scheduling: {problem}") from None
    return config


def _known_name(policy: str) -> Any:
    """Orderings without a model are checked here; those with one where it is loaded."""
    from shunter.scheduler import choose_ordering

    name = policy.partition(":")[0]
    return choose_ordering("fcfs") if name in {"learned", "tuned-linear", "model"} else choose_ordering(policy)


def _keys_at(location: Sequence[int | str]) -> list[str]:
    """Keys that are known at a place of the file."""
    model: Any = Config
    for part in location:
        if isinstance(part, str):
            annotation = model.model_fields[part].annotation if part in model.model_fields else None
            inner = [a for a in (annotation, *getattr(annotation, "__args__", ())) if hasattr(a, "model_fields")]
            if not inner:
                return []
            model = inner[0]
    return list(model.model_fields)


def example() -> str:
    """A file with every key at its default, each below what it means."""
    lines = ["# Configuration of `shunter daemon`: every key there is, at its default. A file needs only what differs."]
    return "\n".join([*lines, *_example_of(Config, Config(), 0)]) + "\n"


def _example_of(model: type[BaseModel], values: BaseModel | None, depth: int) -> Iterator[str]:
    """Lines of one section; without values, as of an item that a list does not have by default."""
    indent = "  " * depth
    for name, field in model.model_fields.items():
        if depth == 0:
            yield ""
        yield f"{indent}# {field.description}"
        value = None if values is None else getattr(values, name)
        if values is None:
            value = None if field.is_required() else field.get_default(call_default_factory=True)
        item = _item_of(field.annotation)
        if isinstance(value, BaseModel):
            yield f"{indent}{name}:"
            yield from _example_of(type(value), value, depth + 1)
        elif item is not None and value:
            yield f"{indent}{name}:"
            for each in value:
                yield from _as_item(list(_example_of(item, each, depth + 2)), depth)
        elif item is not None:
            yield f"{indent}{name}: []"
            yield f"{indent}# {name}:"
            yield from (f"{indent}# {line}" for line in _as_item(list(_example_of(item, None, 2)), 0))
        else:
            yield f"{indent}{name}: {_yaml_of('NAME' if value is None and values is None else value)}"


def _item_of(annotation: Any) -> type[BaseModel] | None:
    """What a list is of, where that is a section."""
    items = [a for a in getattr(annotation, "__args__", ()) if isinstance(a, type) and issubclass(a, BaseModel)]
    return items[0] if items else None


def _as_item(lines: list[str], depth: int) -> Iterator[str]:
    """Lines of a section as an item: the dash stands before the first key, comments before it stay above."""
    first = next(i for i, line in enumerate(lines) if not line.lstrip().startswith("#"))
    dash = "  " * (depth + 1) + "- "
    for i, line in enumerate(lines):
        yield dash + line[len(dash) :] if i == first else line


def _yaml_of(value: Any) -> str:
    import yaml

    plain = list(value) if isinstance(value, tuple) else value.value if isinstance(value, Enum) else value
    return str(yaml.safe_dump(plain, default_flow_style=True, width=10_000)).removesuffix("\n...\n").strip()


def rules_of(config: Config) -> Rules:
    """How decisions are made."""
    said = config.scheduling
    return Rules(
        policy=said.policy,
        backfill=said.backfill,
        placement=said.placement,
        depth=said.depth,
        locality_s=said.locality_s,
        preempt=said.preempt,
        min_run_s=said.min_run_s,
        grace_s=said.grace_s,
    )


def conduct_of(config: Config) -> Conduct:
    """What the leader goes by."""
    return Conduct(
        rules=rules_of(config),
        queues={queue.name: QueueRules(**queue.model_dump()) for queue in config.queues},
        models=models_of(config),
        groups=shares_of(config),
        by_queue=not config.groups,
        leases=LeaseRules(**config.leases.model_dump(), failover=FailoverRules(**config.failover.model_dump())),
        queue_depth=config.scheduling.queue_depth,
        min_interval_s=config.scheduling.min_interval_s,
    )


def models_of(config: Config) -> ModelRules:
    """What holds for learned orders."""
    said = config.scheduling
    return ModelRules(said.mode, said.model, said.guard, limit_s=said.model_limit_s, budget_s=said.model_budget_s)


def shares_of(config: Config) -> tuple[GroupRules, ...]:
    """Quotas and weights: of the groups, or of the queues where there are several and no group has a quota."""
    by = config.scheduling.weights
    if config.groups:
        kept = set(Group.model_fields) - ({"weight"} if by != "groups" else set())
        return tuple(GroupRules(**group.model_dump(include=kept)) for group in config.groups)
    if by != "queues" or len(config.queues) == 1 or config.scheduling.backfill == "conservative":
        return ()
    return tuple(GroupRules(queue.name, weight=queue.weight) for queue in config.queues)


def limits_of(config: Config) -> Limits:
    """What users may ask for."""
    return Limits(**config.limits.model_dump())
