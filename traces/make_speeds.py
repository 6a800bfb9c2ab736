"""Writes the tables of speeds in the package: ``python -m shunter.traces.make_speeds PUBLISHED [FOLDER]``.

``PUBLISHED`` holds the files that Gavel, Sia, ElasticFlow and Lucid publish, in folders of those names. What is kept of
them is derived: single-job rates rounded to four digits (Gavel, ElasticFlow), step times at one batch size per model
turned into rates (Sia), steps per training (Sia), means over settings (Lucid).
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from shunter.scheduler.types import FloatArray
from shunter.traces.interference import Interference, fit, read_lucid, summarise
from shunter.traces.throughput_files import (
    SIA_GPUS,
    Training,
    read_elasticflow,
    read_gavel,
    read_sia,
    read_sia_work,
)
from shunter.traces.throughputs import Throughputs

DIGITS = 4
"""Significant digits that are kept: measurements repeat to two or three."""

NOTES = {
    "gavel": """\
Gavel: Narayanan et al., OSDI 2020; stanford-futuredata/gavel, scheduler/simulation_throughputs.json (MIT licence).
Entry "null" (alone on its GPUs); steps/s counts the batches of all workers, so a gang's rate is weak scaling.
packed: GPUs of as few servers as possible; spread: every GPU on another server (Gavel's "unconsolidated").
null: not measured, or 0 in the source.""",
    "sia": """\
Sia: Subramanya et al., SOSP 2023; siasosp23/artifacts, sia-simulator/traces/*/{placements,scalability}-*.csv.
Rate = 1 / (step + (passes - 1) * (step - sync)) at a fixed global batch size, interpolated in the local batch size:
bert 384, cifar10 2048, deepspeech2 320, imagenet 3200, ncf 32768, yolov3 64. So a gang's rate is strong scaling.
packed: as few nodes as possible (4 GPUs a node: t4, rtx6000; 8: the others); spread: two nodes instead of one.""",
    "elasticflow": """\
ElasticFlow: Gu et al., ASPLOS 2023; pkusys/ElasticFlow, scheduler/throughputs_A100/*.csv (Apache-2.0).
Iterations/s at the largest global batch size measured: strong scaling. (Its T4 tables equal Sia's.)""",
    "training": """\
What a training of Pollux's and Sia's workloads is, by application and batch size, for the readers of their job lists.
Qiao et al., OSDI 2021; Subramanya et al., SOSP 2023; tables as in speeds.yaml, section sia.
iterations: last entry of "iteration" in validation-BATCH.csv, where the authors' simulators end a job.
steps_per_s: on T4, 4 to a node, as few nodes as possible, by number of GPUs; null: less than the least local batch.""",
    "interference": """\
Two jobs on one GPU: Hu et al., ASPLOS 2023 (Lucid); S-Lab-System-Group/Lucid, simulation/data/colocate_info.csv and
simulation/analyzer/single_data.csv (data CC-BY-4.0). Means over batch sizes and precisions.
utilisation: of the GPU, each model alone. speed: of the first model beside the second, over its speed alone, at most 1.
coefficient: least squares of speed = 1 / (1 + coefficient * own utilisation * other's) over all pairs.""",
}


def _comment(name: str, extra: str = "") -> str:
    return "".join(f"# {line}\n" for line in (NOTES[name] + (f"\n{extra}" if extra else "")).split("\n"))


def _number(value: float) -> str:
    return f"{value:.{DIGITS}g}" if np.isfinite(value) else "null"


def _list(values: Iterable[float]) -> str:
    return f"[{', '.join(_number(value) for value in values)}]"


def _rates(name: str, values: FloatArray) -> list[str]:
    return [f"{name}: {_list(values)}"] if np.isfinite(values).any() else []


def throughput_yaml(table: Throughputs) -> str:
    """One section of ``speeds.yaml``."""
    lines = [
        f"{table.name}:",
        f"  unit: {table.unit}",
        f"  reference: {table.reference}",
        f"  gpus: {_list(table.gpus)}",
        f"  gpu_types: [{', '.join(table.gpu_types)}]",
        "  models:",
    ]
    for i, model in enumerate(table.models):
        lines.append(f"    {model}:")
        for t, kind in enumerate(table.gpu_types):
            rates = _rates("packed", table.packed[i, t]) + _rates("spread", table.spread[i, t])
            if rates:
                lines.append(f"      {kind}: {{{', '.join(rates)}}}")
    return _comment(table.name) + "\n".join(lines) + "\n"


def training_yaml(work: dict[str, dict[int, Training]]) -> str:
    """``training.yaml``."""
    lines = [f"gpus: {_list(SIA_GPUS)}", "applications:"]
    for application, batches in work.items():
        lines.append(f"  {application}:")
        for batch, training in batches.items():
            rates = _list(training.rates)
            lines.append(f"    {batch}: {{iterations: {training.iterations:.0f}, steps_per_s: {rates}}}")
    return _comment("training") + "\n".join(lines) + "\n"


def interference_yaml(table: Interference, error: float, points: int) -> str:
    """``interference.yaml``."""
    lines = [f"coefficient: {table.coefficient:.3f}", "utilisation:"]
    lines += [f"  {name}: {value:.3f}" for name, value in table.utilisation.items()]
    lines.append("speed:")
    for own, row in table.measured.items():
        lines.append(f"  {own}: {{{', '.join(f'{other}: {value:.3f}' for other, value in row.items())}}}")
    note = f"Its mean absolute error over the {points:,} measured speeds is {error:.3f}."
    return _comment("interference", note) + "\n".join(lines) + "\n"


def make_files(published: Path) -> dict[str, str]:
    """Name and content of each file of the package that derives from published tables.

    Raises:
        TraceError: A file is missing or is not what it should be.
    """
    sia = published / "sia" / "throughput_tables.tar.gz"
    tables = (
        read_gavel(published / "gavel" / "simulation_throughputs.json.gz"),
        read_sia(sia),
        read_elasticflow(published / "elasticflow" / "throughputs_A100_T4.tar.gz"),
    )
    pairs = read_lucid(published / "lucid" / "colocate_info.csv.gz", published / "lucid" / "single_data.csv.gz")
    error = float(np.mean(np.abs(pairs.fitted(fit(pairs)) - pairs.speed)))
    return {
        "speeds.yaml": "\n".join(throughput_yaml(table) for table in tables),
        "training.yaml": training_yaml(read_sia_work(sia)),
        "interference.yaml": interference_yaml(summarise(pairs), error, len(pairs.speed)),
    }


def main(arguments: Sequence[str]) -> None:
    """Write the files into the folder given second, by default the package's own."""
    folder = Path(arguments[1]) if len(arguments) > 1 else Path(__file__).resolve().parent / "data"
    for name, content in make_files(Path(arguments[0])).items():
        (folder / name).write_text(content, encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
