"""Throughput tables: formulas by hand on small files, the packaged tables against the published files."""

from __future__ import annotations

import gzip
import io
import json
import tarfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from shunter.scheduler.errors import ConfigError, TraceError
from shunter.traces.interference import interference_table, packaged_interference, packed_speed, read_lucid
from shunter.traces.make_speeds import make_files
from shunter.traces.throughput_files import read_elasticflow, read_gavel, read_sia, read_sia_work, steps_per_s
from shunter.traces.throughputs import (
    Throughputs,
    data_file,
    default_parallel_ratio,
    packaged_speeds,
    packaged_tables,
    packaged_throughputs,
    speed_up_curves,
)

NAN = float("nan")


def table(packed: list[list[list[float]]], spread: list[list[list[float]]]) -> Throughputs:
    return Throughputs(
        "small", "steps/s", "v100", ("a", "b"), ("k80", "v100"), (1, 2, 4), np.array(packed), np.array(spread)
    )


SMALL = table(
    packed=[[[1, 2, NAN], [4, 6, 10]], [[2, NAN, NAN], [2, NAN, NAN]]],
    spread=[[[NAN, 1, 1], [NAN, 3, 9]], [[NAN, NAN, NAN], [NAN, NAN, NAN]]],
)


def test_relative_speeds() -> None:
    # One GPU: a 1/4, b 1; the default is their geometric mean, 1/2. Two GPUs: a 2/6; b was measured on one only.
    assert SMALL.relative_speeds()[:, 0].tolist() == pytest.approx([0.25, 1.0, 0.5])
    assert SMALL.relative_speeds(3)[:2, 0].tolist() == pytest.approx([1 / 3, 1.0])
    assert SMALL.relative_speeds(4)[0, 0] == pytest.approx(0.25)
    speeds = SMALL.speeds(["K80", "V100"])
    assert speeds["K80"] == pytest.approx({"a": 0.25, "b": 1.0, "default": 0.5})
    assert set(speeds["V100"].values()) == {1.0}


def test_tier_speed() -> None:
    # Spread over packed on V100: 3/6 and 9/10, geometric mean 0.6708; b has no gangs and so only the default.
    tiers = SMALL.tier_speed()
    assert set(tiers) == {"a", "default"}
    assert tiers["a"]["node"] == 1.0
    assert tiers["a"]["rack"] == pytest.approx(0.45**0.5)
    assert tiers["default"] == pytest.approx(tiers["a"])


def test_rates_of_gangs_that_were_not_measured() -> None:
    assert SMALL.rate("a", 2) == (6.0, True)
    assert SMALL.rate("a", 3) == (8.0, True)  # halfway between 6 and 10
    assert SMALL.rate("a", 8) == (pytest.approx(20.0), False)  # twice the rate on 4
    # b on 4 GPUs grows as a does: 2 · 10/4; on 8 twice as much again.
    assert SMALL.rate("b", 4) == (pytest.approx(5.0), False)
    assert SMALL.rate("b", 8) == (pytest.approx(10.0), False)
    with pytest.raises(KeyError):
        SMALL.rate("c", 1)


def test_step_time_with_accumulation() -> None:
    # Local batch, step, synchronisation. 8 on one GPU fits. 32 needs two passes of 16: 2.5 + (2.5 − 0.5) = 4.5 s.
    # 12 lies between: 2.25 s. 2 a GPU was not measured.
    measured = np.array([[8.0, 2.0, 0.5], [16.0, 2.5, 0.5]])
    assert steps_per_s(measured, 8, 1) == pytest.approx(1 / 2.0)
    assert steps_per_s(measured, 32, 1) == pytest.approx(1 / 4.5)
    assert steps_per_s(measured, 24, 2) == pytest.approx(1 / 2.25)
    assert np.isnan(steps_per_s(measured, 8, 4))


def test_gavel_file(tmp_path: Path) -> None:
    content = {
        "v100": {"('LM', 1)": {"null": 2.0, "('LM', 1)": [1.0, 1.0]}, "('LM', 8)": {"null": 10.0}},
        "v100_unconsolidated": {"('LM', 1)": {"null": 2.0}, "('LM', 8)": {"null": 5.0}},
        "k80": {"('LM', 1)": {"null": 0.5}, "('LM', 8)": {"null": 0.0}},
    }
    path = tmp_path / "throughputs.json.gz"
    path.write_bytes(gzip.compress(json.dumps(content).encode()))
    found = read_gavel(path)
    assert (found.models, found.gpu_types) == (("LM",), ("v100", "k80"))
    assert found.relative_speeds(8)[0].tolist() == pytest.approx([1.0, 0.25])
    assert found.tier_speed()["LM"]["switch"] == pytest.approx(0.5)
    for damaged in (b"{", b"[]", b'{"v100": {"LM": {"null": 1}}}', b'{"k80": {}}'):
        path.write_bytes(damaged)
        with pytest.raises(TraceError) as caught:
            read_gavel(path)
        assert "\n" not in str(caught.value)


def archive(path: Path, files: Mapping[str, str]) -> Path:
    with tarfile.open(path, "w:gz") as tar:
        for name, text in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(text.encode())
            tar.addfile(member, io.BytesIO(text.encode()))
    return path


def test_archives_of_other_things_are_refused_in_one_line(tmp_path: Path) -> None:
    applications = ("bert", "cifar10", "deepspeech2", "imagenet", "ncf", "yolov3")
    placements = {f"{name}/placements-aws.csv": "placement,local_bsz\n1,x\n" for name in applications}
    other = archive(tmp_path / "other.tar.gz", {"bert/placements-aws.csv": "placement,local_bsz,step_time,sync_time\n"})
    cells = archive(tmp_path / "cells.tar.gz", placements)
    plain = tmp_path / "plain.csv"
    plain.write_text("a,b\n1,2\n" * 300)
    for path in (other, cells, plain, tmp_path / "absent.tar.gz"):
        for read in (read_sia, read_sia_work, read_elasticflow):
            with pytest.raises(TraceError) as caught:
                read(path)
            assert "\n" not in str(caught.value)
            assert str(path) in str(caught.value)


def test_packaged_tables_are_complete() -> None:
    assert packaged_tables() == ("gavel", "sia", "elasticflow")
    for name in packaged_tables():
        found = packaged_throughputs(name)
        home = found.type_idx(found.reference)
        assert np.isfinite(found.packed[:, home, 0]).all()
        assert np.nanmin(found.packed) > 0
    with pytest.raises(ConfigError, match="did you mean 'gavel'"):
        packaged_speeds("gavle")


def test_what_a_cluster_file_takes_over() -> None:
    speeds, tiers = packaged_speeds("sia", ["T4", "RTX2080Ti", "A100"])
    assert set(speeds) == {"T4", "RTX2080Ti", "A100"}
    assert speeds["T4"]["default"] == 1.0
    assert speeds["A100"]["bert"] > speeds["RTX2080Ti"]["bert"] > 1.0
    for by_tier in tiers.values():
        assert by_tier["node"] == 1.0
        assert all(0 < value <= 1 for value in by_tier.values())
    # Gavel, OSDI 2020, figure 1: ResNet-50 gains about 10 times from K80 to V100, A3C about 2 times.
    gavel, _ = packaged_speeds("gavel")
    assert 1 / gavel["k80"]["ResNet-50 (batch size 128)"] == pytest.approx(7.2, abs=0.1)
    assert 1 / gavel["k80"]["A3C"] == pytest.approx(2.1, abs=0.1)


def test_speed_up_curves() -> None:
    curves = speed_up_curves(["imagenet", "vgg16", None], 64)
    assert curves.shape == (3, 65)
    assert np.all(np.diff(curves, n=2, axis=1) <= 1e-9)
    assert np.all(np.diff(curves, axis=1) >= -1e-9)
    # 16 T4 train ImageNet 0.9558 / 0.06776 = 14.1 times as fast as one.
    assert curves[0, 16] == pytest.approx(14.1, abs=0.1)
    ratio = default_parallel_ratio()
    assert curves[2, 8] == pytest.approx(1 / (1 - ratio + ratio / 8))


def test_sia_rates_are_those_that_elasticflow_publishes(shared: Path) -> None:
    # ElasticFlow's T4 tables go back to the same measurements; its authors interpolated them on their own.
    archive_path = shared / "elasticflow" / "throughputs_A100_T4.tar.gz"
    theirs = read_elasticflow(archive_path, "T4")
    work = read_sia_work(shared / "sia" / "throughput_tables.tar.gz")
    largest = {"bert": 384, "cifar10": 4096, "deepspeech2": 640, "imagenet": 6400, "ncf": 32768, "yolov3": 64}
    ours_at = {1: 0, 2: 1, 4: 2, 8: 4, 16: 6, 32: 8, 64: 10}
    compared = 0
    for row, model in enumerate(theirs.models):
        ours = work[model][largest[model]].rates
        for column, gpus in enumerate(theirs.gpus):
            if np.isfinite(theirs.packed[row, 0, column]):
                assert ours[ours_at[gpus]] == pytest.approx(theirs.packed[row, 0, column], rel=1e-3)
                compared += 1
    assert compared > 35


def test_packaged_files_are_what_the_script_makes(shared: Path) -> None:
    for name, content in make_files(shared).items():
        assert data_file(name).read_text(encoding="utf-8") == content, f"{name}: run shunter.traces.make_speeds again"


def test_packaged_rates_are_the_published_ones(shared: Path) -> None:
    published = read_gavel(shared / "gavel" / "simulation_throughputs.json.gz")
    packaged = packaged_throughputs("gavel")
    assert packaged.models == published.models
    np.testing.assert_allclose(packaged.packed, published.packed, rtol=1e-3)
    np.testing.assert_allclose(packaged.spread, published.spread, rtol=1e-3)
    physical = read_gavel(shared / "gavel" / "physical_cluster_throughputs.json.gz")
    assert set(physical.models) == set(published.models)


def test_interference_table() -> None:
    own, other = packed_speed("ResNet-18 (batch size 16)", "LSTM")  # Gavel's name, Lucid's class
    assert (own, other) == (0.694, 0.882)
    # Never measured together: 1 / (1 + c · u · v).
    found = packaged_interference()
    expected = 1 / (1 + found.coefficient * found.utilisation["BERT"] * found.utilisation["VGG"])
    assert packed_speed("BERT", "VGG") == (pytest.approx(expected), pytest.approx(expected))
    average = np.mean(list(found.utilisation.values()))
    square = interference_table([None, "LSTM", "unheard of"])
    assert square[0, 2] == square[2, 0] == pytest.approx(1 / (1 + found.coefficient * average**2))
    assert np.all((square > 0) & (square <= 1))


def test_error_of_the_interference_fit(shared: Path) -> None:
    pairs = read_lucid(shared / "lucid" / "colocate_info.csv.gz", shared / "lucid" / "single_data.csv.gz")
    assert len(pairs.speed) == 2 * 1388
    error = np.abs(pairs.fitted(packaged_interference().coefficient) - pairs.speed)
    table = packaged_interference().measured
    by_class = np.array([table[own][other] for own, other in zip(pairs.own, pairs.other, strict=True)])
    assert error.mean() == pytest.approx(0.054, abs=0.001)
    assert np.abs(by_class - pairs.speed).mean() == pytest.approx(0.044, abs=0.001)
    # A constant would be off by half as much again.
    assert error.mean() < 0.75 * np.abs(pairs.speed.mean() - pairs.speed).mean()


def test_damaged_colocation_data(tmp_path: Path) -> None:
    alone, pairs = tmp_path / "alone.csv", tmp_path / "pairs.csv"
    alone.write_text("model,dataset,batchsize,amp,gpu_util\nVGG,CIFAR-10,32,0,50\n")
    pairs.write_text(
        "model1,dataset1,batchsize1,amp1,speed1,model2,dataset2,batchsize2,amp2,speed2\nA,B,1,0,1,A,B,1,0,1\n"
    )
    with pytest.raises(TraceError, match="colocation"):
        read_lucid(pairs, alone)
