"""Whatever is sent at any method, and whatever a configuration holds: an answer or a clear refusal, and no leak."""

from __future__ import annotations

import asyncio
import itertools
import random
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
import yaml
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st

from shunter.daemon.config import checked
from shunter.daemon.pb import admin_pb2, agent_pb2, common_pb2, nodes_pb2, scheduler_pb2
from shunter.daemon.security.rates import RateRules, Rates
from shunter.daemon.service.access import Role
from shunter.daemon.store.lease import open_lease
from shunter.daemon.store.sql_store import open_store
from shunter.scheduler.errors import ConfigError
from tests.daemon.security.live import LOCAL, Live, as_metadata, serving, sleeping
from tests.daemon.simulated import description

Code = grpc.StatusCode
NO_LIMIT = RateRules(user_calls_per_s=1e9, user_burst=1e9, all_calls_per_s=1e9, all_burst=1e9)
NEVER = {Code.INTERNAL, Code.UNKNOWN, Code.DATA_LOSS}
MODULES = (admin_pb2, agent_pb2, nodes_pb2, scheduler_pb2)
METHODS = [
    (f"/{service.full_name}/{method.name}", method)
    for module in MODULES
    for service in module.DESCRIPTOR.services_by_name.values()
    for method in service.methods
]
STRANGE_NUMBERS = (0, 1, 2, 3, -1, 7, 127, 2**31 - 1, -(2**31), 2**32 - 1, 2**53, 2**63 - 1, 2**63, 2**64 - 1, -(2**63))
STRANGE_FLOATS = (0.0, -0.0, 1.0, -1.0, 0.5, 1e-300, 1e300, float("inf"), float("-inf"), float("nan"), 1.767e9)
STRANGE_TEXTS = (
    "", "a", "n1", "alice", "default", "\0", "a\0b", "%", "_", "'; drop table jobs; --", "../../etc/passwd", "ü€😀",
    "\u202e", "x" * 300, "/bin/true", "0", "MQ==", "LTE=", "OTk5OTk5OTk5OTk5OTk5OTk5OTk=", "=", "SIGKILL", "TERM", "\n",
)  # fmt: skip


def filled(message: Any, chance: random.Random, depth: int = 0) -> Any:
    """A message with some fields set to values that are seldom met."""
    for field in message.DESCRIPTOR.fields:
        if chance.random() < (0.5 if depth < 2 else 0.7):
            continue
        count = chance.choice((0, 1, 1, 2, 5)) if field.is_repeated else 1
        is_map = field.message_type is not None and field.message_type.GetOptions().map_entry
        if is_map:
            if field.message_type.fields_by_name["value"].cpp_type == field.CPPTYPE_STRING:
                getattr(message, field.name)[chance.choice(STRANGE_TEXTS)] = chance.choice(STRANGE_TEXTS)
            continue
        for _ in range(count):
            if field.cpp_type == field.CPPTYPE_MESSAGE:
                if depth > 3:
                    continue
                inner = getattr(message, field.name).add() if field.is_repeated else getattr(message, field.name)
                inner.SetInParent()
                filled(inner, chance, depth + 1)
                continue
            value = _value(field, chance)
            if field.is_repeated:
                getattr(message, field.name).append(value)
            else:
                setattr(message, field.name, value)
    return message


def _value(field: Any, chance: random.Random) -> Any:
    kind = field.cpp_type
    if kind in (field.CPPTYPE_DOUBLE, field.CPPTYPE_FLOAT):
        return chance.choice(STRANGE_FLOATS)
    if kind == field.CPPTYPE_BOOL:
        return chance.random() < 0.5
    if kind == field.CPPTYPE_STRING:
        text = chance.choice(STRANGE_TEXTS)
        return text.encode() if field.type == field.TYPE_BYTES else text
    if kind == field.CPPTYPE_ENUM:
        return chance.choice((0, 1, 2, 3, 8, 9, 100, -1, 2**31 - 1))
    bounds = {
        field.CPPTYPE_INT32: (-(2**31), 2**31 - 1),
        field.CPPTYPE_INT64: (-(2**63), 2**63 - 1),
        field.CPPTYPE_UINT32: (0, 2**32 - 1),
        field.CPPTYPE_UINT64: (0, 2**64 - 1),
    }[kind]
    return chance.choice([number for number in STRANGE_NUMBERS if bounds[0] <= number <= bounds[1]])


def mutated(raw: bytes, chance: random.Random) -> bytes:
    """A valid message with some bytes changed, taken out, doubled or put in."""
    data = bytearray(raw)
    for _ in range(chance.choice((0, 1, 1, 2, 8))):
        place = chance.randrange(len(data) + 1)
        how = chance.randrange(4)
        if how == 0 and place < len(data):
            data[place] = chance.randrange(256)
        elif how == 1:
            del data[place : place + chance.randrange(1, 5)]
        elif how == 2:
            data[place:place] = chance.randbytes(chance.randrange(1, 5))
        else:
            data[place:place] = data[: chance.randrange(1, 9)]
    return bytes(data)


def inputs(chance: random.Random) -> Iterator[tuple[str, Any, list[bytes]]]:
    """Methods and what is sent to them, without end."""
    while True:
        name, method = chance.choice(METHODS)
        made = []
        for _ in range(chance.choice((1, 2, 4)) if method.client_streaming else 1):
            if chance.random() < 0.2:
                made.append(chance.randbytes(chance.choice((0, 1, 2, 5, 20, 100))))
            else:
                message = filled(_class_of(method.input_type)(), chance)
                raw = message.SerializeToString()
                made.append(mutated(raw, chance) if chance.random() < 0.4 else raw)
        yield name, method, made


def _class_of(descriptor: Any) -> Any:
    from google.protobuf import message_factory

    return message_factory.GetMessageClass(descriptor)


async def send(live: Live, name: str, method: Any, raws: list[bytes], metadata: Any) -> tuple[Code, list[bytes]]:
    """How a call ended and what it answered; streams are read for a moment."""
    channel, answers = live.channel, []

    async def messages():
        for raw in raws:
            yield raw

    try:
        if method.client_streaming and method.server_streaming:
            call = channel.stream_stream(name)(messages(), metadata=metadata, timeout=0.5)
        elif method.client_streaming:
            answers.append(await channel.stream_unary(name)(messages(), metadata=metadata, timeout=20))
            return Code.OK, answers
        elif method.server_streaming:
            call = channel.unary_stream(name)(raws[0], metadata=metadata, timeout=0.05)
        else:
            answers.append(await channel.unary_unary(name)(raws[0], metadata=metadata, timeout=20))
            return Code.OK, answers
        async for raw in call:
            answers.append(raw)
            if len(answers) >= 3:
                call.cancel()
                break
    except grpc.aio.AioRpcError as error:
        return error.code(), answers
    except asyncio.CancelledError:
        return Code.CANCELLED, answers
    return Code.OK, answers


CANARY, OWNER = "canary-of-a-job", "canary-of-a-user"


def fuzz(folder: Path, count: int, chance: random.Random) -> dict[Code, int]:
    """Send so many inputs; returns how they ended."""
    codes: dict[Code, int] = {}
    suspects: list[Any] = []
    failures: list[tuple[str, Code]] = []

    class Meter:
        """What the daemon ended calls with; clients make an INTERNAL of their own when a stream ends as they write."""

        def called(self, method: str, code: Code, _seconds: float) -> None:
            if code in NEVER:
                failures.append((method, code))

    async def run() -> None:
        url = f"sqlite:///{folder / 'fuzz.db'}"
        lease = open_lease(url, holder="test", address="")
        token = lease.acquire(3600.0)
        store = open_store(url, token=token)
        async with serving(folder, store=store, rates=Rates(NO_LIMIT), meter=Meter()) as live:
            callers = [
                as_metadata(LOCAL),
                live.token(Role.SUBMITTER, "mallory"),
                live.token(Role.SUBMITTER, "mallory"),
                live.token(Role.VIEWER, "viewer"),
                live.token(Role.AGENT, "n1"),
                live.token(Role.AGENT),
                as_metadata("shn_wrong"),
                None,
            ]
            mallory = callers[1:3]
            alice = live.token(Role.SUBMITTER, OWNER)
            register = nodes_pb2.RegisterRequest(node="n1", description=description(4, 8, 2), state_id="s")
            await live.nodes.Register(register, metadata=callers[0])
            spec = sleeping(CANARY)
            await live.jobs.Submit(scheduler_pb2.SubmitRequest(spec=spec), metadata=alice)
            source = inputs(chance)
            lanes = 16

            async def lane() -> None:
                for name, method, raws in itertools.islice(source, count // lanes):
                    metadata = chance.choice(callers)
                    code, answers = await send(live, name, method, raws, metadata)
                    codes[code] = codes.get(code, 0) + 1
                    if code in NEVER:
                        suspects.append((name, code, raws))
                    if method.server_streaming is False:
                        assert code is not Code.DEADLINE_EXCEEDED, (name, raws)
                    if metadata in mallory:
                        told = b"".join(answers)
                        assert CANARY.encode() not in told, (name, raws)
                        assert OWNER.encode() not in told, (name, raws)

            async with asyncio.TaskGroup() as group:
                for _ in range(lanes):
                    group.create_task(lane())
            alive = await live.jobs.GetJob(scheduler_pb2.GetJobRequest(job=1), metadata=alice, timeout=20)
            assert alive.spec.name == CANARY
            assert live.leader.leads
            assert not live.leader.deposed.done()
        store.close()
        lease.close()

    asyncio.run(run())
    assert not failures, (failures[:5], [suspect for suspect in suspects if suspect[0] == failures[0][0]][:3])
    return codes


def test_no_message_makes_the_daemon_fail_hang_or_tell_of_others(tmp_path: Path) -> None:
    codes = fuzz(tmp_path, 1600, random.Random(20260101))
    assert sum(codes.values()) == 1600
    reached = {Code.OK, Code.INVALID_ARGUMENT, Code.UNAUTHENTICATED, Code.PERMISSION_DENIED, Code.NOT_FOUND}
    assert reached <= set(codes), codes


@pytest.mark.slow
def test_a_hundred_thousand_messages(tmp_path: Path) -> None:
    codes = fuzz(tmp_path, 100_000, random.Random(20260102))
    assert sum(codes.values()) == 100_000
    print(codes)  # noqa: T201


# --- configuration files ---------------------------------------------------------------------------------------------

KEYS = st.sampled_from(
    ["listen", "store", "scheduling", "queues", "groups", "leases", "limits", "security", "metrics", "tls", "name",
     "policy", "depth", "heartbeat_s", "lease_s", "rates", "cert", "preempt", "user_burst", "telemetry_s", "max_nodes"]
)  # fmt: skip
LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | st.sampled_from(STRANGE_TEXTS)
VALUES = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS | st.text(max_size=8), inner, max_size=6)
)
SMALL = settings(max_examples=80, deadline=None, suppress_health_check=list(HealthCheck))
LARGE = settings(max_examples=3_000, deadline=None, suppress_health_check=list(HealthCheck))


def check_configuration(content: dict[str, Any]) -> None:
    try:
        config = checked(content, "fuzz")
    except ConfigError:
        return
    assert checked(config.model_dump(), "fuzz") == config


@seed(1)
@SMALL
@given(st.dictionaries(KEYS, VALUES, max_size=6))
def test_a_configuration_can_be_used_or_is_refused(content: dict[str, Any]) -> None:
    check_configuration(content)


@pytest.mark.slow
@LARGE
@given(st.dictionaries(KEYS, VALUES, max_size=6))
def test_many_configurations(content: dict[str, Any]) -> None:
    check_configuration(content)


def read_text(text: bytes) -> None:
    from shunter.daemon.config import read_config

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "daemon.yaml"
        path.write_bytes(text)
        try:
            read_config(path)
        except ConfigError:
            return


@seed(2)
@SMALL
@given(st.binary(max_size=200) | st.dictionaries(KEYS, VALUES, max_size=4).map(lambda v: yaml.safe_dump(v).encode()))
def test_a_file_can_be_used_or_is_refused(text: bytes) -> None:
    read_text(text)


# --- one user's data in another's answers ----------------------------------------------------------------------------


@seed(3)
@settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    st.lists(st.tuples(st.sampled_from(["alice", "bob", "carol"]), st.booleans()), min_size=2, max_size=12),
    st.lists(st.integers(0, 15), max_size=4),
    st.sampled_from(["", "alice", "bob"]),
)
def test_a_submitter_is_never_told_of_the_jobs_of_others(
    made: list[tuple[str, bool]], ids: list[int], user: str
) -> None:
    async def run() -> None:
        with tempfile.TemporaryDirectory() as folder:
            async with serving(Path(folder)) as live:
                tokens = {name: live.token(Role.SUBMITTER, name) for name in ("alice", "bob", "carol")}
                register = nodes_pb2.RegisterRequest(node="n1", description=description(1), state_id="s")
                await live.nodes.Register(register, metadata=as_metadata(LOCAL))
                owners = {}
                for owner, is_cancelled in made:
                    spec = common_pb2.JobSpec(name=f"of-{owner}", command=["sleep"], environment={"OF": owner})
                    done = await live.jobs.Submit(scheduler_pb2.SubmitRequest(spec=spec), metadata=tokens[owner])
                    owners[done.job] = owner
                    if is_cancelled:
                        request = scheduler_pb2.CancelRequest(jobs=[done.job])
                        await live.jobs.Cancel(request, metadata=tokens[owner])
                await _check_answers(live, tokens["alice"], owners, ids, user)

    asyncio.run(run())


async def _check_answers(live: Live, alice: Any, owners: dict[int, str], ids: list[int], user: str) -> None:
    own = {job for job, owner in owners.items() if owner == "alice"}
    wanted = scheduler_pb2.JobFilter(user=user)
    try:
        listed = await live.jobs.ListJobs(scheduler_pb2.ListJobsRequest(filter=wanted), metadata=alice)
        assert {job.id for job in listed.jobs} == own
        assert {job.user for job in listed.jobs} <= {"alice"}
        assert user != "bob"
    except grpc.aio.AioRpcError as error:
        assert (error.code(), user) == (Code.PERMISSION_DENIED, "bob")
    events: list[common_pb2.Event] = []
    watching = live.jobs.Watch(scheduler_pb2.WatchRequest(after=0, jobs=ids), metadata=alice, timeout=0.1)
    try:
        async for told in watching:
            events += told.events
    except grpc.aio.AioRpcError as error:
        assert error.code() is Code.DEADLINE_EXCEEDED
    assert {event.job for event in events} <= own
    assert {event.job for event in events} == (own & set(ids) if ids else own)
    nodes = await live.nodes.ListNodes(nodes_pb2.ListNodesRequest(), metadata=alice)
    assert {job for node in nodes.nodes for job in node.jobs} <= own
    for job, owner in owners.items():
        for ask, request in (
            (live.jobs.GetJob, scheduler_pb2.GetJobRequest(job=job)),
            (live.jobs.Explain, scheduler_pb2.ExplainRequest(job=job)),
            (live.jobs.EstimateStart, scheduler_pb2.EstimateStartRequest(job=job)),
            (live.jobs.Cancel, scheduler_pb2.CancelRequest(jobs=[job], whole_array=True)),
            (live.jobs.Reprioritise, scheduler_pb2.ReprioritiseRequest(jobs=[job])),
            (live.jobs.Submit, scheduler_pb2.SubmitRequest(spec=_after(job))),
        ):
            try:
                answer = await ask(request, metadata=alice)
                assert job in own
                if isinstance(answer, scheduler_pb2.Explanation):
                    assert set(answer.ahead) <= own
            except grpc.aio.AioRpcError as error:
                if job not in own:
                    assert error.code() is Code.PERMISSION_DENIED
                    assert owner not in (error.details() or "")


def _after(job: int) -> common_pb2.JobSpec:
    condition = common_pb2.Dependency.CONDITION_AFTER_ANY
    return common_pb2.JobSpec(command=["x"], dependencies=[common_pb2.Dependency(job=job, condition=condition)])
