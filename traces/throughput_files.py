"""Readers for the published throughput tables of Gavel, Sia and ElasticFlow.

Each takes a file as its authors publish it (a JSON file, or an archive of CSV files, packed or not) and returns
``Throughputs``. Rates are steps per second. Files that are damaged or of another kind raise a one-line ``TraceError``.
"""

from __future__ import annotations

import ast
import csv
import io
import json
import tarfile
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from shunter.scheduler.errors import TraceError
from shunter.scheduler.types import FloatArray
from shunter.traces.compression import read_bytes
from shunter.traces.throughputs import Throughputs

SPREAD = "_unconsolidated"
"""Ending of a GPU type's name in Gavel's tables for gangs with every GPU on another node."""

GAVEL_GPUS = (1, 2, 4, 8)
"""Gang sizes of Gavel's tables."""

SIA_GPUS = (1, 2, 4, 6, 8, 12, 16, 24, 32, 48, 64)
"""Gang sizes of Sia's tables that were measured on as few nodes as possible on every GPU type that has that many."""


@dataclass(frozen=True, slots=True)
class SiaCluster:
    """A cluster on which Sia's authors measured: the ending of its files and the GPUs of a node."""

    ending: str
    gpus_per_node: int


SIA_TYPES: Mapping[str, SiaCluster] = {
    "t4": SiaCluster("aws", 4),
    "a100": SiaCluster("dgx-ext", 8),
    "rtx6000": SiaCluster("quad", 4),
    "rtx2080ti": SiaCluster("rtx", 8),
    "v100": SiaCluster("azure", 8),
}
"""GPU types of Sia's tables (Subramanya et al., SOSP 2023, section 4). ``azure`` is ND40rs_v2: eight V100."""

SIA_BATCH: Mapping[str, int] = {
    "bert": 384,
    "cifar10": 2048,
    "deepspeech2": 320,
    "imagenet": 3200,
    "ncf": 32768,
    "yolov3": 64,
}
"""Batch size at which models are compared: one that the authors' tuned workloads ask for. ``gpt_pmp`` is left out: it
trains by pipeline parallelism and was not measured on the reference type."""


def read_gavel(path: str | Path) -> Throughputs:
    """Gavel's table, ``{gpu type: {"('job type', scale factor)": {"null": steps/s, …}}}``.

    A step is a batch of one worker, so rates of gangs count the batches of all workers. A rate of 0 counts as not
    measured. Rates of packed pairs are left aside.
    Source: Narayanan et al., OSDI 2020.

    Raises:
        TraceError: The file is no such table.
    """
    try:
        content = json.loads(read_bytes(Path(path)))
        rates = {
            (kind, *ast.literal_eval(key)): float(entry["null"])
            for kind, entries in content.items()
            for key, entry in entries.items()
        }
    except (ValueError, SyntaxError, KeyError, TypeError, AttributeError) as problem:
        raise TraceError(f"{path}: expected Gavel's throughput table, {_told(problem)}") from None
    kinds = tuple(kind for kind in content if not kind.endswith(SPREAD))
    models = tuple(dict.fromkeys(model for _, model, _ in rates))

    def table(ending: str, smallest: int) -> FloatArray:
        values = [
            [
                [rates.get((kind + ending, model, g), 0.0) if g >= smallest else 0.0 for g in GAVEL_GPUS]
                for kind in kinds
            ]
            for model in models
        ]
        return np.where(np.array(values) > 0, values, np.nan)

    if "v100" not in kinds:
        raise TraceError(f"{path}: expected Gavel's throughput table, it has no GPU type 'v100'")
    return Throughputs(
        name="gavel",
        unit="steps/s",
        reference="v100",
        models=models,
        gpu_types=kinds,
        gpus=GAVEL_GPUS,
        packed=table("", 1),
        spread=table(SPREAD, 2),
    )


def _told(problem: Exception) -> str:
    """An exception in one line."""
    return f"{type(problem).__name__}: {' '.join(str(problem).split())[:100]}"


def members(path: Path) -> Iterator[tuple[str, str]]:
    """Name and text of each CSV file of a tar archive.

    Raises:
        TraceError: The file is no archive, or damaged.
    """
    try:
        with tarfile.open(fileobj=io.BytesIO(read_bytes(path))) as archive:
            for member in archive:
                file = archive.extractfile(member) if member.name.endswith(".csv") else None
                if file is not None:
                    yield member.name, file.read().decode("utf-8")
    except (tarfile.TarError, UnicodeDecodeError) as problem:
        raise TraceError(f"{path}: expected an archive of CSV files, {_told(problem)}") from None


Measured = Mapping[tuple[int, int], FloatArray]
"""(nodes, GPUs) → (P, 3) local batch size, seconds a step, of them seconds of synchronisation; by local batch size."""


def _measurements(path: Path, texts: Sequence[str]) -> Measured:
    """Rows of placement and scalability tables by nodes and GPUs; several measurements of one point are averaged."""
    rows: dict[tuple[int, int], dict[float, list[tuple[float, float]]]] = defaultdict(lambda: defaultdict(list))
    try:
        for text in texts:
            for row in csv.DictReader(io.StringIO(text)):
                if "placement" in row:
                    shape = row["placement"]
                    nodes, gpus = len(shape), sum(int(digit) for digit in shape)
                else:
                    nodes, gpus = int(row["num_nodes"]), int(row["num_replicas"])
                times = float(row["step_time"]), float(row["sync_time"])
                rows[nodes, gpus][float(row["local_bsz"])].append(times)
    except (KeyError, ValueError, TypeError) as problem:
        raise TraceError(f"{path}: expected Sia's throughput tables, {_told(problem)}") from None
    return {
        point: np.array([(size, *np.mean(times, axis=0)) for size, times in sorted(sizes.items())])
        for point, sizes in rows.items()
    }


def steps_per_s(measured: FloatArray, batch: int, gpus: int) -> float:
    """Steps a second at a fixed global batch size.

    A local batch larger than was measured (it does not fit into memory) is accumulated over several passes, each with
    an equal part and only the last one with synchronisation. One smaller than was measured gives nan.

    Args:
        measured: (P, 3) local batch size, seconds a step, seconds of synchronisation.
        batch: Global batch size.
        gpus: GPUs that share it.

    Source: the step time of Qiao et al., OSDI 2021, section 3.2, as their and Sia's simulators interpolate it.
    """
    local = np.ceil(batch / gpus)
    passes = np.ceil(local / measured[-1, 0])
    part = np.ceil(local / passes)
    if part < measured[0, 0]:
        return float("nan")
    step_s, sync_s = (float(np.interp(part, measured[:, 0], measured[:, c])) for c in (1, 2))
    return float(1.0 / (step_s + (passes - 1.0) * (step_s - sync_s)))


def _sia_tables(path: Path) -> dict[str, dict[str, Measured]]:
    """Application → ending of the file's name → measurements."""
    texts: dict[tuple[str, str], list[str]] = defaultdict(list)
    for name, text in members(path):
        application, kind, ending = _parts(name)
        if kind in ("placements", "scalability"):
            texts[application, ending].append(text)
    found: dict[str, dict[str, Measured]] = defaultdict(dict)
    for (application, ending), parts in texts.items():
        if application in SIA_BATCH:
            found[application][ending] = _measurements(path, parts)
    missing = sorted(set(SIA_BATCH) - set(found))
    if missing:
        raise TraceError(f"{path}: expected Sia's throughput tables, none of {', '.join(missing)}")
    return found


def read_sia(path: str | Path) -> Throughputs:
    """Sia's tables: steps a second at the batch size ``SIA_BATCH``; the reference type is the T4.

    ``packed`` is the placement on as few nodes as possible, ``spread`` that on two nodes where one would do.
    Source: Subramanya et al., SOSP 2023; Qiao et al., OSDI 2021.

    Raises:
        TraceError: The file is no such archive, or lacks an application.
    """
    tables = _sia_tables(Path(path))

    def rates(nodes_of: Callable[[int, SiaCluster], int]) -> FloatArray:
        values = np.full((len(SIA_BATCH), len(SIA_TYPES), len(SIA_GPUS)), np.nan)
        for i, (application, batch) in enumerate(SIA_BATCH.items()):
            for t, cluster in enumerate(SIA_TYPES.values()):
                measured = tables[application].get(cluster.ending, {})
                for g, gpus in enumerate(SIA_GPUS):
                    point = (nodes_of(gpus, cluster), gpus)
                    if point in measured:
                        values[i, t, g] = steps_per_s(measured[point], batch, gpus)
        return values

    return Throughputs(
        name="sia",
        unit="steps/s",
        reference="t4",
        models=tuple(SIA_BATCH),
        gpu_types=tuple(SIA_TYPES),
        gpus=SIA_GPUS,
        packed=rates(lambda gpus, cluster: -(-gpus // cluster.gpus_per_node)),
        spread=rates(lambda gpus, cluster: 2 if 1 < gpus <= cluster.gpus_per_node else -1),
    )


@dataclass(frozen=True, slots=True)
class Training:
    """What a training job of Pollux and Sia has to do at one batch size.

    Attributes:
        iterations: Steps until the end of training.
        rates: (G,) steps a second on as many T4 as ``SIA_GPUS`` says, packed; nan where the batch cannot be split so.
    """

    iterations: float
    rates: FloatArray


def read_sia_work(path: str | Path) -> dict[str, dict[int, Training]]:
    """Application → batch size → the steps of a whole training and their rates on T4.

    The steps are the last entry of ``iteration`` in the validation table of that batch size: the authors' simulators
    end every job after the last epoch of that table.

    Raises:
        TraceError: The file is no such archive, or lacks an application.
    """
    tables = _sia_tables(Path(path))
    work: dict[str, dict[int, Training]] = {name: {} for name in SIA_BATCH}
    for name, text in members(Path(path)):
        application, kind, ending = _parts(name)
        if kind == "validation" and application in work:
            measured = tables[application].get(SIA_TYPES["t4"].ending, {})
            try:
                work[application][int(ending)] = _training(measured, int(ending), text)
            except (KeyError, ValueError, IndexError) as problem:
                raise TraceError(f"{path}: {name}: expected Sia's validation table, {_told(problem)}") from None
    return {name: dict(sorted(batches.items())) for name, batches in work.items()}


def _training(measured: Measured, batch: int, validation: str) -> Training:
    """A training from its validation table and the step times on T4."""
    iterations = float([row["iteration"] for row in csv.DictReader(io.StringIO(validation))][-1])
    points = [(-(-gpus // SIA_TYPES["t4"].gpus_per_node), gpus) for gpus in SIA_GPUS]
    rates = [steps_per_s(measured[p], batch, p[1]) if p in measured else float("nan") for p in points]
    return Training(iterations, np.array(rates))


def _parts(name: str) -> tuple[str, str, str]:
    """``bert/placements-aws.csv`` as application, kind of table, and ending."""
    *_, application, file = ("", *Path(name).parts)
    kind, _, ending = file.removesuffix(".csv").partition("-")
    return application, kind, ending


def read_elasticflow(path: str | Path, gpu_type: str = "A100") -> Throughputs:
    """ElasticFlow's tables of one GPU type: iterations a second by number of GPUs at each model's largest batch size.

    A cell of 0 or ``nan`` was not measured.
    Source: Gu et al., ASPLOS 2023.

    Raises:
        TraceError: The archive has no tables of that type, or they are damaged.
    """
    place, rows, sizes = Path(path), dict[str, list[float]](), tuple[int, ...]()
    try:
        for name, text in members(place):
            folder, file = Path(name).parent.name, Path(name)
            if folder == f"throughputs_{gpu_type}":
                heading, *body = csv.reader(io.StringIO(text))
                sizes = tuple(int(cell) for cell in heading[1:])
                rows[file.stem] = [float(cell or "nan") for cell in max(body, key=lambda row: int(row[0]))[1:]]
        values = np.array(list(rows.values()), dtype=np.float64).reshape(len(rows), 1, len(sizes))
    except ValueError as problem:
        raise TraceError(f"{path}: expected ElasticFlow's throughput tables, {_told(problem)}") from None
    if not rows:
        raise TraceError(f"{path}: expected ElasticFlow's throughput tables, none of GPU type {gpu_type!r}")
    packed = np.where(values > 0, values, np.nan)
    return Throughputs(
        name="elasticflow",
        unit="steps/s",
        reference=gpu_type.lower(),
        models=tuple(rows),
        gpu_types=(gpu_type.lower(),),
        gpus=sizes,
        packed=packed,
        spread=np.full_like(packed, np.nan),
    )
