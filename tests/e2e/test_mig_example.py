"""The example of MIG instances in the guide, run as a reader would run it."""

from __future__ import annotations

import re
from pathlib import Path

import polars as pl

from tests.e2e.conftest import Shunter

GUIDE = Path(__file__).parents[2] / "docs" / "gpu-clusters.md"


def test_the_example_of_mig_instances(shunter: Shunter, tmp_path: Path) -> None:
    """The notebook lies at slice 6 of GPU 0. Tuning closes 8 places at slice 4 of GPU 1 and 10 at slice 0 of GPU 0.

    Serving closes 10 on either GPU: the first. Large needs a whole GPU, and GPU 1 is the first to be left, by tuning.
    """
    section = GUIDE.read_text(encoding="utf-8").split("### MIG instances")[1]
    files = {}
    for name, language in (("lab.yaml", "yaml"), ("jobs.csv", "text")):
        block = re.search(rf"```{language}\n(.*?)```", section, re.DOTALL)
        assert block is not None
        files[name] = tmp_path / name
        files[name].write_text(block[1], encoding="utf-8")
    shown = shunter("cluster", "show", files["lab.yaml"], "--json").document
    assert shown["groups"][0]["geometry"] == "a100-40gb"
    assert shown["groups"][0]["profiles"]["1g.5gb"] == 7
    assert "1g.10gb×4" in shunter("cluster", "show", files["lab.yaml"]).out
    out = tmp_path / "run"
    how = ("--cluster", files["lab.yaml"], "--backfill", "easy", "--placement", "best-fit", "--out", out, "--figures")
    ran = shunter("simulate", files["jobs.csv"], *how)
    assert ran.code == 0, ran.err
    jobs, held = (pl.read_parquet(out / f"{name}.parquet") for name in ("jobs", "placements"))
    names = jobs["job_id"].to_list()
    assert dict(zip(names, jobs["start_s"].to_list(), strict=True)) == {
        "notebook": 0, "tuning": 60, "serving": 120, "large": 1860, "share": 240, "training": 2040,
    }  # fmt: skip
    places = {names[row["job"]]: (row["node"], row["gpu"], row["slice"], row["slices"]) for row in held.to_dicts()}
    assert places["notebook"] == (0, 0, 6, 1)
    assert places["tuning"] == (0, 1, 4, 4)
    assert places["serving"] == (0, 0, 0, 4)
    assert places["large"] == (0, 1, 0, 8)
    assert places["share"] == (1, 0, None, None)
    assert (out / "figures" / "gpus.png").stat().st_size > 5_000
