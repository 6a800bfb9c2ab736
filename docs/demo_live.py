"""Run ``shunter demo --live`` and write down what it printed: ``python -m docs.demo_live``.

Not part of ``docs.build``: its times differ from run to run, and it takes most of a minute.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

PAGE = Path(__file__).resolve().parent / "reference" / "demo-live.md"
HEAD = """\
# A node is killed

What `shunter demo --live` printed, as it is, recorded by `python -m docs.demo_live`: a daemon, three nodes and 60
jobs as real processes on one machine with default settings. Each node pretends to have four GPUs. When 15 jobs have
ended, everything on `node-2` is killed with SIGKILL: its agent, the processes beside its jobs, and the jobs. Times are
seconds since the jobs were submitted. In a terminal the same is drawn in place.

*Lost* are jobs that did not complete, or did not write down their own end. *Doubled* are jobs that wrote it down twice,
or began again before the kill. *Failover* is from the kill to the new start on another node, and has two parts: until
the lease of the node is over (9 s after its last heartbeat that was answered, which may be up to 3 s before the kill,
and 1 s more), and until GPUs elsewhere are free.

```text
"""


def main() -> int:
    """Write the page; 1 when the demo failed."""
    command = [sys.executable, "-m", "shunter", "demo", "--live"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        sys.stderr.write(done.stderr)
        return 1
    PAGE.write_text(f"{HEAD}$ shunter demo --live\n{done.stdout}```\n", "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
