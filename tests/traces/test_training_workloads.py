"""Gavel's traces and Pollux's and Sia's workloads: durations from steps and measured rates."""

from __future__ import annotations

import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from shunter.scheduler.errors import TraceError
from shunter.traces.read import read
from shunter.traces.readers.gavel import EXTRAPOLATED
from shunter.traces.throughputs import packaged_throughputs

SEVEN = "{job}\tpython3 train.py %s\t-step\t1\t{steps}\t{at}\t{gpus}"
TEN = "{job}\tpython3 train.py %s\ttranslation\t-step\t1\t{steps}\t{gpus}\t2\t-1.000000\t{at}"


@pytest.mark.parametrize("form", [SEVEN, TEN])
def test_gavel_durations(write_text: Callable[..., Path], form: str) -> None:
    rows = [
        form.format(job="LM (batch size 5)", steps=109200, at=10, gpus=1),
        form.format(job="LM (batch size 5)", steps=698800, at=20.5, gpus=8),
        form.format(job="CycleGAN", steps=4426, at=30, gpus=16),
    ]
    trace = read(write_text("\n".join(rows) + "\n"))
    assert trace.format == "gavel"
    jobs = trace.jobs.frame
    # The table has 109.2 steps/s on one V100 and 698.8 on eight.
    assert jobs["duration_s"].to_list()[:2] == pytest.approx([1000.0, 1000.0])
    assert jobs["submit_s"].to_list() == [10.0, 20.5, 30.0]
    assert jobs["model_class"].to_list() == ["LM (batch size 5)", "LM (batch size 5)", "CycleGAN"]
    assert (jobs["gpus"] * jobs["tasks"]).to_list() == [1, 8, 16]
    assert jobs["priority"].to_list() == ([2.0] * 3 if form is TEN else [0.0] * 3)
    # CycleGAN was measured on one GPU; on 16 it is as much faster as the others are on 8, twice over.
    growth = packaged_throughputs("gavel").rate("CycleGAN", 16)[0] / 4.426
    assert 8 < growth < 16
    assert jobs["duration_s"][2] == pytest.approx(1000.0 / growth)
    assert trace.cleaning.adjusted[EXTRAPOLATED] == 1


def test_gavel_bad_rows(write_text: Callable[..., Path]) -> None:
    good = SEVEN.format(job="A3C", steps=7, at=0, gpus=1)
    bad = [
        SEVEN.format(job="A3D", steps=7, at=0, gpus=1),
        SEVEN.format(job="A3C", steps="many", at=0, gpus=1),
        SEVEN.format(job="A3C", steps=7, at=0, gpus=0),
        SEVEN.format(job="A3C", steps=7, at=0, gpus=1.5),
    ]
    for row in bad:
        path = write_text(f"{good}\n{row}\n")
        with pytest.raises(TraceError, match=r"trace\.txt:2:\d+: column"):
            read(path)
        assert len(read(path, skip_bad=True).jobs) == 1
    with pytest.raises(TraceError, match="7 or 10"):
        read(write_text("a\tb\n"), format="gavel")


def test_pollux_durations(write_text: Callable[..., Path]) -> None:
    rows = ["name,time,application,num_replicas,batch_size", "a,107,cifar10,16,4096", "b,110.5,imagenet,10,1600"]
    trace = read(write_text("\n".join(rows) + "\n"))
    assert trace.format == "pollux"
    jobs = trace.jobs.frame
    # 2,011 steps at 4.474 a second; ImageNet on 10 GPUs lies halfway between 8 and 12 in time.
    assert jobs["duration_s"][0] == pytest.approx(2011 / 4.474)
    eight, twelve = (
        float(read(write_text(f"{rows[0]}\nb,1,imagenet,{gpus},1600\n")).jobs.frame["duration_s"][0])
        for gpus in (8, 12)
    )
    assert jobs["duration_s"][1] == pytest.approx((eight + twelve) / 2)
    assert (jobs["gpus"] * jobs["tasks"]).to_list() == [16, 10]
    assert jobs["model_class"].to_list() == ["cifar10", "imagenet"]
    assert jobs["min_gpus"].to_list() == [1, 1]
    assert jobs["max_gpus"].to_list() == [64, 64]


def test_pollux_bad_rows(write_text: Callable[..., Path]) -> None:
    for row, field in (("b,1,gpt9,1,12", 3), ("b,1,bert,1,13", 5), ("b,1,bert,9,12", 4), ("b,1,bert,0,12", 4)):
        path = write_text(f"name,time,application,num_replicas,batch_size\na,0,bert,1,12\n{row}\n")
        with pytest.raises(TraceError, match=rf"trace\.txt:3:{field}: column"):
            read(path)
        assert len(read(path, skip_bad=True).jobs) == 1


@pytest.mark.parametrize(
    ("archive", "member", "jobs", "form"),
    [
        ("gavel/msr_seed0.tar.gz", "e13805.trace", 607, "gavel"),
        ("gavel/physical_cluster_and_specs.tar.gz", "max_min_fairness.trace", 96, "gavel"),
        ("pollux/workloads.tar.gz", "workloads-realistic/workload-1.csv", 160, "pollux"),
        ("sia/workloads.tar.gz", "philly/workload-1.csv", 160, "pollux"),
    ],
)
def test_published_members_read_whole(
    shared: Path, tmp_path: Path, archive: str, member: str, jobs: int, form: str
) -> None:
    with tarfile.open(shared / archive) as tar:
        name = next(name for name in tar.getnames() if name.endswith(member))
        file = tar.extractfile(name)
        assert file is not None
        path = tmp_path / Path(name).name
        path.write_bytes(file.read())
    trace = read(path)
    assert (trace.format, len(trace.jobs), trace.cleaning.rows_dropped) == (form, jobs, 0)


def test_pollux_job_sizes_are_those_of_the_paper(shared: Path, tmp_path: Path) -> None:
    # Pollux, OSDI 2021, table 1: ImageNet is an XL job (100 to 1,000 GPU-hours), YOLOv3 large (10 to 100), DeepSpeech2
    # and BERT medium (1 to 10); CIFAR-10 small (up to 1) when it is not overprovisioned.
    with tarfile.open(shared / "pollux" / "workloads.tar.gz") as tar:
        name = next(name for name in tar.getnames() if name.endswith("workloads/workload-1.csv"))
        file = tar.extractfile(name)
        assert file is not None
        (tmp_path / "workload.csv").write_bytes(file.read())
    jobs = read(tmp_path / "workload.csv").jobs.frame
    sizes: dict[str, list[float]] = {}
    for model, seconds, gpus, tasks in jobs.select("model_class", "duration_s", "gpus", "tasks").iter_rows():
        sizes.setdefault(model, []).append(seconds * gpus * tasks / 3600)
    bounds = {
        "imagenet": (100, 1000),
        "yolov3": (10, 100),
        "deepspeech2": (1, 10),
        "bert": (1, 10),
        "cifar10": (0, 2.5),
    }
    for model, gpu_h in sizes.items():
        low, high = bounds.get(model, (0, 1))
        assert low < min(gpu_h) <= max(gpu_h) < high, model
