"""Who may call what, over a real channel."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import grpc
import pytest

from shunter.daemon.pb import admin_pb2, agent_pb2, common_pb2, nodes_pb2, scheduler_pb2
from shunter.daemon.security.policy import POLICY
from shunter.daemon.security.rates import RateRules, Rates
from shunter.daemon.service.access import Role
from tests.daemon.security.live import LOCAL, Live, as_metadata, code_of, serving, sleeping
from tests.daemon.simulated import description

Code = grpc.StatusCode
MODULES = (admin_pb2, agent_pb2, nodes_pb2, scheduler_pb2)


def methods_of_the_protocol() -> set[str]:
    return {
        f"/{service.full_name}/{method.name}"
        for module in MODULES
        for service in module.DESCRIPTOR.services_by_name.values()
        for method in service.methods
    }


def call(live: Live, method: str, metadata: object, raw: bytes = b""):
    """A call of any kind of method with one message."""
    handler_kind = next(
        (
            (m.client_streaming, m.server_streaming)
            for module in MODULES
            for service in module.DESCRIPTOR.services_by_name.values()
            for m in service.methods
            if method == f"/{service.full_name}/{m.name}"
        ),
        (method.endswith("Info"), method.endswith(("Info", "Watch"))),
    )

    async def messages():
        yield raw

    channel = live.channel
    if handler_kind == (False, False):
        return channel.unary_unary(method)(raw, metadata=metadata, timeout=5)
    if handler_kind == (False, True):
        return channel.unary_stream(method)(raw, metadata=metadata, timeout=5)
    if handler_kind == (True, False):
        return channel.stream_unary(method)(messages(), metadata=metadata, timeout=5)
    return channel.stream_stream(method)(messages(), metadata=metadata, timeout=5)


def test_every_method_of_every_service_stands_in_the_table(tmp_path: Path) -> None:
    assert methods_of_the_protocol() <= set(POLICY)

    async def check() -> None:
        async with serving(tmp_path) as live:
            assert sorted(live.server.guarded.methods) == sorted(POLICY)

    asyncio.run(check())


def test_every_method_refuses_each_role_that_may_not_call_it_and_whoever_proves_nothing(tmp_path: Path) -> None:
    async def check() -> None:
        async with serving(tmp_path) as live:
            tokens = {role: live.token(role, "n1" if role is Role.AGENT else "") for role in Role}
            for method, rule in POLICY.items():
                if rule.roles is None:
                    assert await code_of(call(live, method, None)) is Code.OK, method
                    continue
                assert await code_of(call(live, method, None)) is Code.UNAUTHENTICATED, method
                for role in Role:
                    if role not in rule.roles:
                        assert await code_of(call(live, method, tokens[role])) is Code.PERMISSION_DENIED, (method, role)

    asyncio.run(check())


@pytest.mark.parametrize(
    "metadata",
    [
        (("authorization", "Bearer shn_wrong"),),
        (("authorization", "Basic cm9vdDpyb290"),),
        (("authorization", LOCAL),),
        (("authorization", ""),),
        (("authorization", f"Bearer {LOCAL}"), ("authorization", f"Bearer {LOCAL}")),
        (("shunter-user", "root"),),
        None,
    ],
)
def test_whoever_has_no_good_token_is_refused_and_the_answer_repeats_nothing_of_it(tmp_path: Path, metadata) -> None:
    async def check() -> None:
        async with serving(tmp_path) as live:
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await live.jobs.ListJobs(scheduler_pb2.ListJobsRequest(), metadata=metadata)
            assert refused.value.code() is Code.UNAUTHENTICATED
            assert "wrong" not in (refused.value.details() or "")
            assert LOCAL not in (refused.value.details() or "")

    asyncio.run(check())


def test_a_token_ends_when_its_time_is_over_or_it_is_revoked_also_for_streams_that_are_open(tmp_path: Path) -> None:
    async def check() -> None:
        async with serving(tmp_path) as live:
            ask = scheduler_pb2.ListJobsRequest()
            short, kept = live.token(Role.VIEWER, "short", lasts_s=0.3), live.token(Role.SUBMITTER, "kept")
            assert await code_of(live.jobs.ListJobs(ask, metadata=short)) is Code.OK
            assert await code_of(live.jobs.ListJobs(ask, metadata=kept)) is Code.OK
            watching = live.jobs.Watch(scheduler_pb2.WatchRequest(after=0), metadata=kept)
            await live.jobs.Submit(scheduler_pb2.SubmitRequest(spec=sleeping()), metadata=kept)
            await anext(aiter(watching))
            await asyncio.sleep(0.35)
            assert await code_of(live.jobs.ListJobs(ask, metadata=short)) is Code.UNAUTHENTICATED
            live.tokens.revoke(next(token.id for token in live.tokens.read() if token.user == "kept"))
            live.tokens._looked_s = float("-inf")
            assert await code_of(live.jobs.ListJobs(ask, metadata=kept)) is Code.UNAUTHENTICATED
            acting = (*as_metadata(LOCAL), ("shunter-user", "kept"))
            await live.jobs.Submit(scheduler_pb2.SubmitRequest(spec=sleeping()), metadata=acting)
            assert await code_of(watching) is Code.UNAUTHENTICATED

    asyncio.run(check())


def test_only_an_operator_acts_for_another_user(tmp_path: Path) -> None:
    async def check() -> None:
        async with serving(tmp_path) as live:
            for_bob = (("shunter-user", "bob"),)
            submit = scheduler_pb2.SubmitRequest(spec=sleeping())
            mine = live.token(Role.SUBMITTER, "alice") + for_bob
            assert await code_of(live.jobs.Submit(submit, metadata=mine)) is Code.PERMISSION_DENIED
            made = await live.jobs.Submit(submit, metadata=as_metadata(LOCAL) + for_bob)
            assert live.store.made[made.job].owner == "bob"
            bad = (*as_metadata(LOCAL), ("shunter-user", "no name"))
            assert await code_of(live.jobs.Submit(submit, metadata=bad)) is Code.PERMISSION_DENIED

    asyncio.run(check())


def test_an_agent_speaks_for_its_own_node_only(tmp_path: Path) -> None:
    async def check() -> None:
        async with serving(tmp_path) as live:
            agent, any_agent = live.token(Role.AGENT, "n1"), live.token(Role.AGENT)

            def register(node: str) -> nodes_pb2.RegisterRequest:
                return nodes_pb2.RegisterRequest(node=node, description=description(4), state_id=node)

            mine = await live.nodes.Register(register("n1"), metadata=agent)
            assert await code_of(live.nodes.Register(register("n2"), metadata=agent)) is Code.PERMISSION_DENIED
            other = await live.nodes.Register(register("n2"), metadata=any_agent)

            async def hello(node: str, registration: int):
                yield agent_pb2.AgentMessage(hello=agent_pb2.Hello(node=node, registration=registration))
                yield agent_pb2.AgentMessage(heartbeat=agent_pb2.Heartbeat(sequence=1))
                await asyncio.sleep(10)

            async def samples(node: str, registration: int):
                yield nodes_pb2.TelemetryBatch(node=node, registration=registration)

            theirs = hello("n2", other.registration)
            assert await code_of(live.agent.Session(theirs, metadata=agent)) is Code.PERMISSION_DENIED
            assert await code_of(live.agent.Session(hello("n1", mine.registration), metadata=agent)) is Code.OK
            batch = samples("n2", other.registration)
            assert await code_of(live.nodes.Telemetry(batch, metadata=agent)) is Code.PERMISSION_DENIED
            assert await code_of(live.nodes.Telemetry(samples("n1", mine.registration), metadata=agent)) is Code.OK

    asyncio.run(check())


def test_an_agent_cannot_put_words_into_the_output_of_a_job_on_another_node() -> None:
    from shunter.daemon.service.logs import LogReaders

    async def check() -> None:
        readers = LogReaders()
        number, replies = readers.begin(["n1"])
        readers.reply("n2", agent_pb2.LogReply(request=number, data=b"forged"))
        assert replies.empty()
        readers.reply("n1", agent_pb2.LogReply(request=number, data=b"true"))
        assert (await replies.get()).data == b"true"

    asyncio.run(check())


def test_too_many_calls_are_refused_for_that_user_only_and_streams_are_counted(tmp_path: Path) -> None:
    rates = Rates(RateRules(user_calls_per_s=0.01, user_burst=3, user_streams=1))

    async def check() -> None:
        async with serving(tmp_path, rates=rates) as live:
            ask = scheduler_pb2.ListJobsRequest()
            alice, bob = live.token(Role.VIEWER, "alice"), live.token(Role.VIEWER, "bob")
            codes = [await code_of(live.jobs.ListJobs(ask, metadata=alice)) for _ in range(5)]
            assert codes == [Code.OK] * 3 + [Code.RESOURCE_EXHAUSTED] * 2
            assert await code_of(live.jobs.ListJobs(ask, metadata=bob)) is Code.OK
            first = live.jobs.Watch(scheduler_pb2.WatchRequest(), metadata=bob)
            reading = asyncio.create_task(first.read())
            while "bob" not in rates._streams:
                await asyncio.sleep(0.01)
            second = live.jobs.Watch(scheduler_pb2.WatchRequest(), metadata=bob)
            assert await code_of(second) is Code.RESOURCE_EXHAUSTED
            first.cancel()
            reading.cancel()
            while "bob" in rates._streams:
                await asyncio.sleep(0.01)

    asyncio.run(check())


def test_messages_that_are_too_large_are_refused_before_they_are_parsed(tmp_path: Path) -> None:
    async def check() -> None:
        async with serving(tmp_path) as live:
            large = common_pb2.JobSpec(command=["x" * 300_000])
            md = as_metadata(LOCAL)
            request = scheduler_pb2.SubmitRequest(spec=large)
            assert await code_of(live.jobs.Submit(request, metadata=md)) is Code.RESOURCE_EXHAUSTED

    asyncio.run(check())


def test_the_audit_log_tells_who_did_what_from_where_and_no_secrets(tmp_path: Path) -> None:
    from shunter.daemon.security.audit import AuditLog

    async def check() -> None:
        audit = AuditLog(tmp_path / "audit.jsonl")
        async with serving(tmp_path, audit=audit) as live:
            alice, viewer = live.token(Role.SUBMITTER, "alice"), live.token(Role.VIEWER, "eve")
            submit = scheduler_pb2.SubmitRequest(spec=sleeping(), idempotency_key="k")
            made = await live.jobs.Submit(submit, metadata=alice)
            await live.jobs.ListJobs(scheduler_pb2.ListJobsRequest(), metadata=alice)
            cancel = scheduler_pb2.CancelRequest(jobs=[made.job], reason="by mistake")
            await live.jobs.Cancel(cancel, metadata=(*as_metadata(LOCAL), ("shunter-user", "bob")))
            await code_of(live.jobs.Submit(submit, metadata=viewer))
            await code_of(live.jobs.Submit(submit, metadata=as_metadata("shn_guessed")))
        audit.close()

    asyncio.run(check())
    text = (tmp_path / "audit.jsonl").read_text()
    lines = [json.loads(line) for line in text.splitlines()]
    told = [(line["method"].rpartition("/")[2], line.get("user"), line.get("by"), line["code"]) for line in lines]
    assert told == [
        ("Submit", "alice", None, "OK"),
        ("Cancel", "bob", "root-of-test", "OK"),
        ("Submit", "eve", None, "PERMISSION_DENIED"),
        ("Submit", None, None, "UNAUTHENTICATED"),
    ]
    assert lines[0]["job"] == 1
    assert lines[1]["jobs"] == [1]
    assert lines[1]["reason"] == "by mistake"
    assert all("127.0.0.1" in line["from"] for line in lines)
    for secret in ("very-secret-value", LOCAL, "guessed", "sleep"):
        assert secret not in text
    assert (tmp_path / "audit.jsonl").stat().st_mode & 0o777 == 0o600


def test_the_audit_log_turns_over_and_strangers_cannot_fill_it(tmp_path: Path) -> None:
    from shunter.daemon.security.audit import AuditLog
    from shunter.daemon.service.access import Caller, Identity

    async def check() -> None:
        audit = AuditLog(tmp_path / "audit.jsonl", max_bytes=2000, num_files=2)
        for _ in range(1000):
            audit.tell("/m", None, "ipv4:127.0.0.1:1", Code.UNAUTHENTICATED, {})
        audit._write()
        for i in range(60):
            audit.tell("/m", Identity(Caller("alice", Role.SUBMITTER)), "ipv4:127.0.0.1:1", Code.OK, {"job": i})
            audit._write()
        audit.close()

    asyncio.run(check())
    files = sorted(tmp_path.iterdir())
    assert [file.name for file in files] == ["audit.jsonl", "audit.jsonl.1", "audit.jsonl.2"]
    assert all(file.stat().st_size < 2500 and file.stat().st_mode & 0o777 == 0o600 for file in files)
