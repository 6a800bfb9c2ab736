"""``python -m shunter`` and the ``shunter`` command: run the command line and turn errors into one line and a code."""

from __future__ import annotations

import os
import sys


def main() -> None:
    """Run the command line; exit with 0 done, 1 failed, 2 bad usage, input or configuration, 130 interrupted."""
    # Several threads of BLAS or OpenMP on small arrays cost more than they bring, and among busy neighbours far more.
    for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "POLARS_MAX_THREADS"):
        os.environ.setdefault(variable, "1")
    from shunter.scheduler.errors import ShunterError

    try:
        from shunter.cli import app

        app()
    except ShunterError as error:
        sys.stderr.write(f"shunter: {error}\n")
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        sys.stderr.write("shunter: interrupted\n")
        sys.exit(130)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)


if __name__ == "__main__":
    main()
