"""One daemon from start to end: it opens the store, serves, leads when it may, and hands over when it must."""

from __future__ import annotations

import asyncio
import gc
import os
import secrets
import signal
import socket
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import structlog

from shunter.daemon.clock import SystemClock
from shunter.daemon.config import Config, conduct_of, limits_of, read_config
from shunter.daemon.errors import ConflictError, DaemonError, FencedError, StoreError
from shunter.daemon.leader import Leader
from shunter.daemon.live import LiveState
from shunter.daemon.metrics import Metrics
from shunter.daemon.metrics_http import Endpoint
from shunter.daemon.planner import Planner
from shunter.daemon.ports import Clock, Store
from shunter.daemon.restore import restore
from shunter.daemon.security.setting_up import Protection, protect
from shunter.daemon.service.server import Server
from shunter.daemon.store.lease import Lease, open_lease
from shunter.daemon.store.retention import prune
from shunter.daemon.store.sql_store import SqlStore, open_store
from shunter.scheduler.errors import ShunterError

log = structlog.get_logger("shunter.daemon")

TERM_S = 4.0
"""Lease of leadership on PostgreSQL: another daemon takes over when it was not renewed for so long."""
LOOKING_SHARE = 5.0
"""A daemon that follows looks at the whole state again after so many times as long as the last look took."""
RENEWALS = 3
"""Tries to renew within a lease."""


@dataclass(slots=True)
class Parts:
    """What whoever starts the daemon hands in.

    Attributes:
        config: Checked.
        config_path: Where it came from, to read it again; None: nowhere.
        overrides: What the command line says on top.
        state_dir: Folder for everything of this daemon.
        planner: Decides.
        asker: Answers questions about jobs beside it; None: the planner does.
        on_listening: Told the address when it serves.
    """

    config: Config
    config_path: Path | None
    overrides: Mapping[str, Any]
    state_dir: Path
    planner: Planner
    asker: Planner | None = None
    on_listening: Callable[[str], None] = lambda _: None


def store_url(config: Config, state_dir: Path) -> str:
    """Where everything is kept."""
    return config.store or f"sqlite:///{(state_dir / 'shunter.db').absolute()}"


class Daemon:
    """See the module.

    Args:
        parts: What it is made of.
    """

    def __init__(self, parts: Parts) -> None:
        self.parts, self.config = parts, parts.config
        self._url = store_url(parts.config, parts.state_dir)
        self._stop = asyncio.Event()
        self._lease: Lease | None = None
        self._store: SqlStore | None = None
        self._look_again_s = 0.0
        self.metrics = Metrics()

    def ask_to_stop(self) -> None:
        """End as soon as what is under way has been stored."""
        self._stop.set()

    async def run(self) -> None:
        """Serve until asked to stop.

        Raises:
            DaemonError: The store cannot be opened, or another daemon has it.
            OSError: The address cannot be listened on.
        """
        _spare_collections()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self.ask_to_stop)
        protection = protect(self.config, self.parts.config_path, self.parts.state_dir)
        holder = f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(4)}"
        self._lease = lease = await asyncio.to_thread(open_lease, self._url, holder=holder, address=self.config.listen)
        try:
            token = await self._first_token(lease)
            self._store = store = await asyncio.to_thread(
                open_store, self._url, token=token, observe=self.metrics.stored
            )
            clock = SystemClock(store.load().last_s)
            leader = Leader(store, clock, self.parts.planner, conduct_of(self.config), self.parts.asker)
            loop.add_signal_handler(signal.SIGHUP, self._reload_quietly, leader)
            self.metrics.watch(leader)
            if token is None:
                leader.follow(store, lease.current().address)
            else:
                leader.lead(store, token)
            await self._serve(leader, lease, token, protection)
        finally:
            self.parts.planner.close()
            if self.parts.asker is not None:
                self.parts.asker.close()
            if self._store is not None:
                await asyncio.to_thread(self._store.close)
            lease.close()

    async def _first_token(self, lease: Lease) -> int | None:
        """The token of a first term; None where another daemon leads and this one waits.

        Raises:
            StoreError: Another daemon has the file, which it keeps for as long as it lives.
        """
        token = await asyncio.to_thread(lease.acquire, TERM_S)
        if token is None and self._url.startswith("sqlite"):
            now = lease.current()
            raise StoreError(f"another daemon ({now.holder}, {now.address}) runs on this state folder")
        return token

    async def _serve(self, leader: Leader, lease: Lease, token: int | None, protection: Protection) -> None:
        protection.guard.meter = self.metrics
        server = Server(
            leader,
            protection.access,
            guard=protection.guard,
            limits=limits_of(self.config),
            telemetry_s=self.config.telemetry_s,
            reload=lambda: self._take_over(leader),
        )
        try:
            port = await server.start(self.config.listen, protection.credentials)
        except RuntimeError as error:
            raise DaemonError(f"cannot listen on {self.config.listen}: {error}") from None
        host = self.config.listen.rpartition(":")[0]
        endpoint = await self._start_endpoint(server, protection.certificate)
        take_away = protection.offer(f"{host}:{port}")
        self.parts.on_listening(f"{host}:{port}")
        warming = asyncio.create_task(leader.warm_up())
        try:
            while not self._stop.is_set():
                if token is not None:
                    await self._term(leader, lease, token)
                else:
                    await self._follow(leader, lease)
                if not self._stop.is_set():
                    token = await self._next_token(lease)
        finally:
            take_away()
            warming.cancel()
            await endpoint.stop()
            await server.stop()
            protection.audit.close()
            was = leader.token if leader.leads else None
            await leader.step_down()
            if was is not None:
                assert self._store is not None
                await asyncio.to_thread(self._store.close)
                await asyncio.to_thread(_release, lease, was)

    async def _start_endpoint(self, server: Server, certificate: Path | None) -> Endpoint:
        settings = self.config.metrics
        endpoint = Endpoint(
            lambda: self.metrics.families(server, max_nodes=settings.max_nodes, certificate=certificate)
        )
        if settings.listen:
            port = await endpoint.start(settings.listen)
            log.info("metrics", listen=f"{settings.listen.rpartition(':')[0]}:{port}")
        return endpoint

    async def _term(self, leader: Leader, lease: Lease, token: int) -> None:
        """Lead until asked to stop or deposed."""
        if not leader.leads:
            assert self._store is not None
            await asyncio.to_thread(self._store.lead, token)
            leader.lead(self._store, token)
        log.info("leading", token=token)
        forgetting = asyncio.create_task(self._forget(leader))
        renewing = asyncio.create_task(self._renew(lease, token))
        stopping = asyncio.create_task(self._stop.wait())
        try:
            await asyncio.wait((renewing, stopping, leader.deposed), return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (forgetting, renewing, stopping):
                task.cancel()
        if not self._stop.is_set():
            assert self._store is not None
            await leader.step_down()
            await asyncio.to_thread(self._store.follow)
            log.warning("deposed", token=token)

    async def _forget(self, leader: Leader) -> None:
        """Now and then delete what is older than it has to be."""
        over = threading.Event()
        try:
            while True:
                rules = self.config.retention
                await asyncio.sleep(rules.every_s)
                assert self._store is not None
                before_s = leader.clock.now_s() - rules.jobs_days * 86400.0
                try:
                    gone = await asyncio.to_thread(
                        prune, self._store, before_s, rules.events, is_wanted=lambda: not over.is_set()
                    )
                    log.info("forgotten", jobs=gone.jobs, events=gone.events, keys=gone.idempotency)
                except DaemonError as error:
                    log.warning("not-forgotten", error=str(error))
        finally:
            over.set()

    async def _renew(self, lease: Lease, token: int) -> None:
        """Renew the lease; ends when it is lost, or could not be renewed in time."""
        until_s = time.monotonic() + TERM_S
        while time.monotonic() < until_s:
            await asyncio.sleep(TERM_S / RENEWALS)
            begun_s = time.monotonic()
            try:
                await asyncio.wait_for(asyncio.to_thread(lease.renew, token, TERM_S), max(until_s - begun_s, 0.1))
                until_s = begun_s + TERM_S
            except FencedError:
                return
            except (StoreError, TimeoutError) as error:
                log.warning("lease-not-renewed", error=str(error))
                if self._url.startswith("sqlite"):
                    until_s = time.monotonic() + TERM_S  # the lock is held as long as the process lives

    async def _follow(self, leader: Leader, lease: Lease) -> None:
        """Show what is stored; the next look is soon."""
        assert self._store is not None
        try:
            now = await asyncio.to_thread(lease.current)
            leader.follow(self._store, now.address)
            begun_s = time.monotonic()
            if begun_s >= self._look_again_s:
                leader.show(await asyncio.to_thread(_stored_state, self._store, leader.clock))
                self._look_again_s = begun_s + LOOKING_SHARE * (time.monotonic() - begun_s)
        except StoreError as error:
            log.warning("cannot-follow", error=str(error))
        try:
            await asyncio.wait_for(self._stop.wait(), TERM_S / 4)
        except TimeoutError:
            return

    async def _next_token(self, lease: Lease) -> int | None:
        try:
            return await asyncio.to_thread(lease.acquire, TERM_S)
        except StoreError as error:
            log.warning("cannot-acquire", error=str(error))
            return None

    # --- configuration -----------------------------------------------------------------------------------------------

    def _reload_quietly(self, leader: Leader) -> None:
        """On SIGHUP: a configuration that cannot be used is logged, and the present one stays."""
        try:
            changes, later = self._take_over(leader)
            log.info("reloaded", changes=changes, needs_restart=later)
        except ShunterError as error:
            log.error("not-reloaded", error=str(error))

    def _take_over(self, leader: Leader) -> tuple[list[str], list[str]]:
        """Read the file again; what can change while running does.

        Returns:
            What is different now, and what a restart is needed for, a line each.

        Raises:
            ConflictError: There is no file.
            ConfigError: It cannot be used; nothing has changed.
        """
        if self.parts.config_path is None:
            raise ConflictError("the daemon was started without a configuration file")
        config = read_config(self.parts.config_path, self.parts.overrides)
        changes, later = list[str](), list[str]()
        before, after = self.config.model_dump(), config.model_dump()
        for key in before:
            if before[key] != after[key]:
                fixed = key in {"listen", "store", "telemetry_s", "limits", "security", "metrics"}
                what = "" if key == "store" else f": {before[key]} → {after[key]}"  # its URL may hold a password
                (later if fixed else changes).append(f"{key}{what}")
        self.config = config
        leader.apply(conduct_of(config))
        return changes, later


def _spare_collections() -> None:
    """Look for cycles seldom: jobs, which are many and live long, have none, and each look goes through all of them."""
    gc.freeze()
    gc.set_threshold(50_000, 50, 100)


def _stored_state(store: Store, clock: Clock) -> LiveState:
    """What is stored, as a state; takes a second for a hundred thousand jobs, so not on the event loop."""
    return restore(store.load(), 0, clock.now_s())


def _release(lease: Lease, token: int) -> None:
    try:
        lease.release(token)
    except StoreError as error:
        log.warning("lease-not-released", error=str(error))
