"""Starting one task: what the child does between fork and exec, and how the shim hears of a failure there."""

from __future__ import annotations

import _signal as signal  # type: ignore[import-not-found]  # the module ``signal`` takes 7 ms to load
import os
import resource

from shunter.daemon.node.shim import groups
from shunter.daemon.node.shim.processes import PR_SET_PDEATHSIG, SIGKILL, prctl

# Python ignores these, and what is ignored stays so in a program that is started.
IGNORED_BY_PYTHON = (13, 25)  # SIGPIPE, SIGXFSZ


def start(order: dict, task: dict, output_fd: int) -> tuple[int, int]:  # type: ignore[type-arg]
    """Fork a child that becomes the task.

    Returns:
        Its number, and a pipe that says nothing when the program has been started and otherwise why it could not be.
    """
    error_read, error_write = os.pipe()
    shim = os.getpid()
    pid = os.fork()
    if pid:
        os.close(error_write)
        return pid, error_read
    stage = ""
    try:
        signal.set_wakeup_fd(-1)
        for name, step in _steps(order, output_fd, shim):
            stage = name
            step()
        stage = f"program {order['argv'][0]!r}"
        _execute(order["argv"], task["environment"])
    except BaseException as error:
        text = os.strerror(error.errno) if isinstance(error, OSError) and error.errno else str(error)
        os.write(error_write, f"{stage}: {text}".encode("utf-8", "replace")[:800])
    finally:
        os._exit(127)


def _execute(argv: list[str], environment: dict[str, str]) -> None:
    """As ``os.execvpe``, which would load a module: the account need not be able to read ours."""
    if "/" in argv[0]:
        os.execve(argv[0], argv, environment)
    problem: OSError = FileNotFoundError(2, os.strerror(2))
    for folder in environment.get("PATH", os.defpath).split(":"):
        try:
            os.execve(f"{folder or '.'}/{argv[0]}", argv, environment)
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as error:  # it is there and cannot be run: said, unless it is found elsewhere
            problem = error
    raise problem


def _steps(order: dict, output_fd: int, shim: int):  # type: ignore[no-untyped-def, type-arg]
    yield "session", os.setsid
    if order["cgroup"]:
        yield "cgroup", lambda: groups.join(order["cgroup"])
    yield "limits", lambda: _limit(order["limits"])
    yield f"account {order['account']!r}", lambda: _become(order)
    yield "parent", lambda: _die_with(shim)
    yield f"working directory {order['working_directory']!r}", lambda: os.chdir(order["working_directory"])
    yield "input and output", lambda: _connect(output_fd)


def _limit(limits: list) -> None:  # type: ignore[type-arg]
    for number, value in limits:
        hard = resource.getrlimit(number)[1]
        most = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(number, (most, most))


def _become(order: dict) -> None:  # type: ignore[type-arg]
    if os.geteuid() == 0 and _is_spared():
        # The shim is spared when memory runs out; its tasks are not.
        with open("/proc/self/oom_score_adj", "w", encoding="ascii") as file:
            file.write("0")
    if order["uid"] is not None:
        os.setgroups(order["groups"])
        os.setresgid(order["gid"], order["gid"], order["gid"])
        os.setresuid(order["uid"], order["uid"], order["uid"])
    os.umask(0o022)


def _is_spared() -> bool:
    with open("/proc/self/oom_score_adj", encoding="ascii") as file:
        return int(file.read()) < 0


def _die_with(shim: int) -> None:
    # After the change of account, which would take the wish back.
    prctl(PR_SET_PDEATHSIG, SIGKILL)
    if os.getppid() != shim:
        os._exit(127)


def _connect(output_fd: int) -> None:
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.dup2(output_fd, 1)
    os.dup2(output_fd, 2)
    for number in IGNORED_BY_PYTHON:
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
