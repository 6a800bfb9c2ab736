"""The life of one attempt on one node: start its tasks, keep what they write, end every process of it, record it all.

Nothing here depends on the agent: orders come in slots of the attempt's records (a signal says that there is one), the
lease is a mapped file. Invariants: STARTED is recorded after every task has been started and before any is waited for;
ENDED is recorded once, as the last thing, when no process of the attempt is left.
"""

from __future__ import annotations

import _signal as signal  # type: ignore[import-not-found]  # the module ``signal`` takes 7 ms to load
import marshal
import os
import select
import sys
import time

from shunter.daemon.node.shim import groups, records, tasks
from shunter.daemon.node.shim.lease import LeaseFile, boot_id, now_s
from shunter.daemon.node.shim.output import TaskOutput
from shunter.daemon.node.shim.processes import (
    PR_SET_CHILD_SUBREAPER,
    descendants,
    kill_all,
    memory_gib,
    prctl,
    start_time,
)

POLL_S = 0.2
"""The lease is looked at this often."""
MEMORY_EVERY_S = 5.0
READ_BYTES = 65536
EXITED, NOT_STARTED, STOPPED, TIME_LIMIT, FENCED, LOST = (
    "exited",
    "not-started",
    "stopped",
    "time-limit",
    "fenced",
    "lost",
)


class Task:
    """One process that was started, and what it writes."""

    def __init__(self, rank: int, pid: int, pipe: int, output: TaskOutput) -> None:
        self.rank = rank
        self.pid = pid
        self.pipe = pipe
        self.output = output
        self.status: int | None = None


class Shim:
    """One attempt.

    Args:
        folder: Of the attempt: ``order`` and ``records`` lie there.
    """

    def __init__(self, folder: str) -> None:
        with open(f"{folder}/order", "rb") as file:
            self._order = marshal.load(file)
        self._folder = folder
        self._records = records.Records(f"{folder}/records")
        self._lease = LeaseFile(self._order["lease"])
        self._tasks: list[Task] = []
        self._poll = select.poll()
        self._by_fd: dict[int, Task] = {}
        self._cause = ""
        self._message = ""
        self._kill_at_s: float | None = None
        self._limit_at_s: float | None = None
        self._machine_stops = False
        self._has_go = not self._order["wait_for_go"]
        self._first_failed: Task | None = None
        self._cpu_s = 0.0
        self._memory_gib = 0.0
        self._memory_at_s = 0.0
        self._no_children = False

    # --- the whole of it ---------------------------------------------------------------------------------------------

    def run(self) -> None:
        """From the first record to the last."""
        prctl(PR_SET_CHILD_SUBREAPER, 1)
        _be_spared()
        self._listen()
        pid = os.getpid()
        self._records.write(records.SHIM, pid=pid, start=start_time(pid), boot=boot_id())
        # Only now: an agent that has asked for a stop and sees no shim relies on the shim's seeing that.
        self._look_at_orders()
        if self._order["wait_for_go"] and not self._cause:
            self._tell(records.READY)
        while not self._has_go and not self._cause:
            self._wait(POLL_S)
            self._look_at_orders()
            if self._lease.has_run_out:
                self._cause, self._message = FENCED, "the node's lease ran out before it was started"
        if self._cause:
            self._end()
            return
        if self._start():
            self._tell(records.STARTED)
            if self._order["time_limit_s"] > 0:
                self._limit_at_s = now_s() + self._order["time_limit_s"]
        while not self._no_children:
            self._wait(POLL_S if self._tasks_left() else 0.01)
            self._step(now_s())
        self._end()

    def _listen(self) -> None:
        read, write = os.pipe()
        for fd in (read, write):
            os.set_blocking(fd, False)
        signal.set_wakeup_fd(write, warn_on_full_buffer=False)
        for number in (signal.SIGCHLD, signal.SIGUSR1):
            signal.signal(number, lambda *_: None)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, self._machine_is_stopping)
        self._wake_fd = read
        self._poll.register(read, select.POLLIN)

    def _machine_is_stopping(self, *_: object) -> None:
        # Only an init system that ends everything sends these: how the tasks end now says nothing of the job.
        self._machine_stops = True

    def _step(self, now: float) -> None:
        self._reap()
        if self._lease.has_run_out:
            self._kill(FENCED, "the node's lease ran out")
        self._look_at_orders()
        if self._limit_at_s is not None and now >= self._limit_at_s:
            self._stop(TIME_LIMIT, self._order["grace_s"], "its time limit was reached")
        if self._kill_at_s is not None and now >= self._kill_at_s:
            self._kill(self._cause, self._message)
        if not self._tasks_left() and not self._no_children:
            self._kill_everything()
        elif now >= self._memory_at_s:
            self._memory_at_s = now + MEMORY_EVERY_S
            self._memory_gib = max(self._memory_gib, memory_gib(descendants(os.getpid())))

    # --- orders ------------------------------------------------------------------------------------------------------

    def _look_at_orders(self) -> None:
        if not self._has_go and self._records.read(records.GO) is not None:
            self._has_go = True
        if self._cause in (STOPPED, FENCED):
            return
        stop = self._records.read(records.STOP)
        if stop is not None:
            self._stop(stop.get("end", STOPPED), float(stop["grace_s"]), stop.get("reason", ""))

    def _stop(self, cause: str, grace_s: float, message: str) -> None:
        """Ask the tasks to stop; the first cause is the one that is told, but an earlier end is taken from any."""
        kill_at_s = now_s() + max(grace_s, 0.0)
        if self._kill_at_s is not None:
            self._kill_at_s = min(self._kill_at_s, kill_at_s)
            return
        self._cause, self._message, self._kill_at_s = cause, message, kill_at_s
        for task in self._tasks:
            if task.status is None:
                try:
                    os.killpg(task.pid, self._order["stop_signal"])
                except OSError:
                    continue

    def _kill(self, cause: str, message: str) -> None:
        if self._kill_at_s is None:
            self._cause, self._message = cause, message
            self._kill_at_s = 0.0
        self._kill_everything()

    def _kill_everything(self) -> None:
        if self._order["cgroup"]:
            groups.kill(self._order["cgroup"])
        kill_all(descendants(os.getpid()))

    # --- processes ---------------------------------------------------------------------------------------------------

    def _start(self) -> bool:
        for place in self._order["tasks"]:
            output = TaskOutput(
                f"{self._folder}/logs",
                place["rank"],
                part_bytes=self._order["log_part_bytes"],
                max_parts=self._order["log_parts"],
            )
            try:
                read, write = os.pipe()
                pid, errors = tasks.start(self._order, place, write)
            except OSError as error:
                self._cause, self._message = NOT_STARTED, f"process: {error.strerror}"
                return False
            os.close(write)
            os.set_blocking(read, False)
            task = Task(place["rank"], pid, read, output)
            self._tasks.append(task)
            self._by_fd[read] = task
            self._poll.register(read, select.POLLIN)
            problem = self._start_problem(errors)
            if problem:
                self._kill_at_s = 0.0
                self._cause, self._message = NOT_STARTED, problem
                return False
        return True

    def _start_problem(self, errors: int) -> str:
        """What the child says before it becomes the program: nothing, if all is well."""
        waiting = select.poll()
        waiting.register(errors, select.POLLIN)
        try:
            while not waiting.poll(POLL_S * 1000):
                if self._lease.has_run_out:
                    return "the node's lease ran out while it was being started"
            return os.read(errors, 1000).decode("utf-8", "replace")
        finally:
            os.close(errors)

    def _tasks_left(self) -> bool:
        return any(task.status is None for task in self._tasks)

    def _reap(self) -> None:
        while True:
            try:
                pid, status, usage = os.wait4(-1, os.WNOHANG)
            except ChildProcessError:
                self._no_children = True
                return
            if pid == 0:
                return
            self._cpu_s += usage.ru_utime + usage.ru_stime
            self._memory_gib = max(self._memory_gib, usage.ru_maxrss / 2**20)
            for task in self._tasks:
                if task.pid == pid:
                    self._task_ended(task, status)

    def _task_ended(self, task: Task, status: int) -> None:
        task.status = status
        if status != 0 and self._first_failed is None:
            self._first_failed = task
            if self._kill_at_s is None and self._tasks_left():
                self._stop(EXITED, self._order["grace_s"], f"task {task.rank} failed, and the others were stopped")

    # --- output and records ------------------------------------------------------------------------------------------

    def _wait(self, timeout_s: float) -> None:
        """Until a signal or output comes; takes in what there is."""
        for fd, _ in self._poll.poll(timeout_s * 1000):
            if fd == self._wake_fd:
                try:
                    os.read(fd, 4096)
                except BlockingIOError:
                    continue
            else:
                self._read(self._by_fd[fd])

    def _read(self, task: Task) -> bool:
        """Take a piece of a task's output; False when there is no more for now."""
        try:
            data = os.read(task.pipe, READ_BYTES)
        except BlockingIOError:
            return False
        if data:
            task.output.write(data)
            return True
        self._poll.unregister(task.pipe)
        os.close(task.pipe)
        task.pipe = -1
        return False

    def _tell(self, slot: int, **fields: object) -> None:
        """Record something, and wake the agent, if there is one."""
        self._records.write(slot, at=time.time(), **fields)
        try:
            fd = os.open(self._order["wake"], os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError:
            return
        try:
            os.write(fd, f"{self._order['name']}\n".encode())
        except OSError:
            pass  # the agent looks now and then by itself, too
        finally:
            os.close(fd)

    def _end(self) -> None:
        for task in self._tasks:
            while task.pipe >= 0 and self._read(task):
                pass
            task.output.close()
        end, message = self._cause or EXITED, self._message
        if self._machine_stops and end == EXITED:
            end, message = LOST, "the machine, or the agent's service with its jobs, was being stopped"
        exit_code, number = self._how()
        cpu_s, memory = self._usage()
        if self._order["cgroup"] and groups.memory_kills(self._order["cgroup"]):
            message = message or "the kernel killed it: it used more memory than it had asked for"
        started = self._records.read(records.STARTED) is not None
        self._tell(
            records.ENDED,
            end=end,
            exit_code=exit_code if started else None,
            signal=number if started else None,
            cpu_s=cpu_s if started else None,
            max_memory_gib=memory if started else None,
            message=message,
        )
        if self._order["cgroup"]:
            groups.remove(self._order["cgroup"])

    def _how(self) -> tuple[int | None, int | None]:
        """Exit code, or signal, of the task that failed first; of any when none did."""
        task = self._first_failed
        if task is None or task.status is None:
            return (0, None) if self._tasks and not self._tasks_left() else (None, None)
        if os.WIFSIGNALED(task.status):
            return None, os.WTERMSIG(task.status)
        return os.WEXITSTATUS(task.status), None

    def _usage(self) -> tuple[float, float]:
        folder = self._order["cgroup"]
        cpu_s = groups.cpu_s(folder) if folder else None
        memory = groups.peak_gib(folder) if folder else None
        return self._cpu_s if cpu_s is None else cpu_s, self._memory_gib if memory is None else memory


def _be_spared() -> None:
    """Have the kernel kill others when memory runs out: with the shim its whole job would be lost."""
    if os.geteuid() == 0:
        try:
            with open("/proc/self/oom_score_adj", "w", encoding="ascii") as file:
                file.write("-900")
        except OSError:
            pass  # root without the right to


def main() -> None:
    """Run the attempt whose folder is the last argument."""
    Shim(sys.argv[-1]).run()
