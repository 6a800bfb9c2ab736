"""``shunter simulate --failures …`` from the outside."""

from __future__ import annotations

import json
from pathlib import Path

import polars as pl
import pytest

from tests.e2e.conftest import Shunter
from tests.sim.test_faults import philly

CLUSTER = """
name: lab
groups:
- {name: node, count: 2, cpus: 8, gpus: 2, mtbf_h: 0.02, mttr_h: 0.01}
"""


@pytest.fixture
def lab(tmp_path: Path) -> Path:
    path = tmp_path / "lab.yaml"
    path.write_text(CLUSTER)
    return path


def test_recorded_attempts_fail_again(shunter: Shunter, tmp_path: Path, lab: Path) -> None:
    log = philly(tmp_path)
    out = tmp_path / "run"
    ran = shunter("simulate", log, "--cluster", lab, "--failures", "recorded", "--out", out, "--json")
    assert ran.code == 0, ran.err
    assert ran.document["runs"][0]["metrics"]["restarts"] == 2
    ended = pl.read_parquet(out / "attempts.parquet")["ended"].cast(str).to_list()
    assert ended.count("failed") == 2
    assert "2 attempts fail, of 1 of 2 jobs" in ran.err
    assert "Attempts failed" in (out / "report.html").read_text()
    given = shunter("simulate", log, "--cluster", lab, "--failures", log, "--out", tmp_path / "same", "--json")
    assert given.document["runs"][0]["metrics"] == ran.document["runs"][0]["metrics"]
    compared = shunter("compare", out, tmp_path / "same", "--json")
    assert compared.code == 0, compared.err


def test_a_plan_a_log_and_rates_are_joined(shunter: Shunter, tmp_path: Path, lab: Path) -> None:
    plan, log, out = tmp_path / "plan.yaml", tmp_path / "log.csv", tmp_path / "run"
    plan.write_text("windows:\n- {nodes: 'node-*', from_h: 0.01, hours: 0.01, notice_h: 0.005}\n")
    log.write_text("time_s,node,event\n50,node-0,fail\n60,node-0,repair\n70,node-0,fail\n80,node-0,repair\n")
    sources = [word for source in (plan, log, "drawn", "recorded") for word in ("--failures", source)]
    flapping = ["--flap-limit", "2", "--flap-window", "100", "--probation", "5", "--retries", "1000"]
    ran = shunter("simulate", philly(tmp_path), "--cluster", lab, *sources, *flapping, "--out", out)
    assert ran.code == 0, ran.err
    kinds = set(pl.read_parquet(out / "outages.parquet")["kind"].cast(str))
    assert kinds == {"failure", "drain", "notice", "probation"}
    assert json.loads((out / "manifest.json").read_text())["settings"]["faults"]["attempts"] == 2


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (["--failures", "recorded"], "does not list the attempts"),
        (["--failures", "no.csv"], "no.csv"),
        (["--failures", "{philly}"], "none of its 3 jobs"),
        (["--failures", "{plan}"], "no node 'x-1'"),
        (["--flap-limit", "-1"], "flap limit -1"),
        (["--flap-limit", "2", "--probation", "0"], "probation of flapping nodes"),
        (["--retry-wait", "nan"], "retry wait nan"),
    ],
)
def test_what_cannot_be_is_refused(
    shunter: Shunter, small_log: Path, tmp_path: Path, options: list[str], reason: str
) -> None:
    plan = tmp_path / "plan.yaml"
    plan.write_text("windows:\n- {nodes: x-1, from_h: 0, hours: 1}\n")
    asked = [option.format(philly=philly(tmp_path), plan=plan) for option in options]
    ran = shunter("simulate", small_log, *asked)
    assert ran.code in (1, 2)
    assert reason in ran.err
    assert "Traceback" not in ran.err
