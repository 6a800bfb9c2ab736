"""The documentation: generated pages are current, links and commands lead somewhere, examples run."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from docs import build, links

REPOSITORY = Path(__file__).resolve().parents[2]
DOCS = REPOSITORY / "docs"

PAGES_WITH_PYTHON = [
    "docs/researcher.md",
    "docs/reference/cluster-files.md",
    "docs/reference/energy-and-cost.md",
    "docs/reference/failures.md",
    "docs/reference/results.md",
    "docs/reference/speeds.md",
]
PAGES_WITH_CLUSTERS = ["docs/operator.md", "docs/reference/cluster-files.md"]


def blocks(page: str, language: str) -> list[str]:
    """Contents of the fenced blocks of a language."""
    text = (REPOSITORY / page).read_text("utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```$", text, flags=re.MULTILINE | re.DOTALL)


def run_python(*arguments: str, folder: Path) -> str:
    """Standard output of a Python program that must succeed."""
    done = subprocess.run(
        [sys.executable, *arguments], cwd=folder, check=False, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


# --- the pages -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def demo_results() -> list[Any]:
    return build.demo_results()


def test_generated_text_is_what_the_code_makes_it(demo_results: list[Any]) -> None:
    assert build.stale(build.generated_texts(demo_results, measurements=False)) == []


def test_no_link_is_broken() -> None:
    assert links.broken_links(REPOSITORY) == []


def test_documented_commands_exist() -> None:
    assert links.unknown_commands(REPOSITORY) == []


def test_documented_make_targets_exist() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (REPOSITORY / "Makefile").read_text(), flags=re.MULTILINE))
    named = {
        name
        for page in links.pages(REPOSITORY)
        for name in re.findall(r"(?:`|\$ )make ([a-z-]+)", page.read_text("utf-8"))
    }
    assert named
    assert named - targets == set()


def test_counts_in_the_readme_are_those_of_the_registries() -> None:
    from shunter.scheduler.policies import ORDERINGS
    from shunter.traces.readers.registry import FORMATS

    text = (REPOSITORY / "README.md").read_text("utf-8")
    assert f"{len(FORMATS)} trace formats" in text
    assert f"{len(ORDERINGS)} orderings" in text


def test_pictures_are_small_and_used() -> None:
    text = "".join(page.read_text("utf-8") for page in links.pages(REPOSITORY))
    for picture in (DOCS / "images").iterdir():
        assert picture.stat().st_size < 300_000, picture.name
        assert f"images/{picture.name}" in text, f"{picture.name} is not shown anywhere"


# --- what the pages say can be done ----------------------------------------------------------------------------------


@pytest.mark.parametrize("page", PAGES_WITH_PYTHON)
def test_python_blocks_of_a_page_run_one_after_the_other(page: str, tmp_path: Path) -> None:
    parts = blocks(page, "python")
    script = tmp_path / "page.py"
    script.write_text("\n".join(parts), encoding="utf-8")
    assert parts
    run_python(str(script), folder=tmp_path)


@pytest.mark.parametrize("page", PAGES_WITH_CLUSTERS)
def test_cluster_files_of_a_page_can_be_read(page: str, tmp_path: Path) -> None:
    from shunter.traces import load_cluster

    for number, text in enumerate(blocks(page, "yaml")):
        path = tmp_path / f"{number}.yaml"
        path.write_text(text, encoding="utf-8")
        assert load_cluster(path).num_nodes > 1


def test_comparison_example_prints_a_table(tmp_path: Path) -> None:
    lines = run_python(str(REPOSITORY / "examples" / "compare_policies.py"), folder=tmp_path).splitlines()
    assert [line.split()[0] for line in lines[1:6]] == [
        "fcfs", "fcfs+easy", "fcfs+conservative", "sjf+easy", "wfp3+easy",
    ]  # fmt: skip


def test_own_policy_example_starves_less_than_sjf(tmp_path: Path) -> None:
    lines = run_python(str(REPOSITORY / "examples" / "own_policy.py"), folder=tmp_path).splitlines()
    longest_d = {line.split()[0]: float(line.split()[-2]) for line in lines[1:]}
    assert longest_d["sjf-aged"] < longest_d["sjf"]


# --- the checks themselves -------------------------------------------------------------------------------------------


@pytest.fixture
def small_repository(tmp_path: Path) -> Path:
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "other.md").write_text("# Two words, `code`\n\n## Twice\n\n## Twice\n")
    return tmp_path


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("[a](docs/other.md)", None),
        ("[a](docs/other.md#two-words-code)", None),
        ("[a](docs/other.md#twice-1)", None),
        ("[a](https://example.org/nowhere)", None),
        ("`[a](nothing.md)`", None),
        ("```\n[a](nothing.md)\n```", None),
        ("x\n[a](nothing.md)", "README.md:2: link 'nothing.md': no such file"),
        ("![a](picture.png)", "README.md:1: link 'picture.png': no such file"),
        ("[a](docs/other.md#twice-2)", "README.md:1: link 'docs/other.md#twice-2': no such heading"),
        ("[a](#here)", "README.md:1: link '#here': no such heading"),
    ],
)
def test_links_are_checked(small_repository: Path, text: str, problem: str | None) -> None:
    (small_repository / "README.md").write_text(text)
    assert links.broken_links(small_repository) == ([problem] if problem else [])


@pytest.mark.parametrize(
    ("command", "problem"),
    [
        ("shunter simulate x.swf --policy sjf -b easy --window 1:2", None),
        ("shunter traces generate lublin99 \\\n  -p load=0.8 --out x.swf", None),
        ("shunter simulate x.swf --polcy sjf", "README.md:2: `shunter simulate` has no option '--polcy'"),
        ("cd x && shunter replay x", "README.md:2: no command 'replay' in 'shunter'"),
    ],
)
def test_commands_are_checked(small_repository: Path, command: str, problem: str | None) -> None:
    (small_repository / "README.md").write_text(f"```console\n$ {command}\n```\n")
    assert links.unknown_commands(small_repository) == ([problem] if problem else [])


def test_a_block_is_replaced_and_the_rest_stays() -> None:
    text = "a\n<!-- x:begin -->\nold\n<!-- x:end -->\nb\n"
    assert build.replace_block(text, "x", "new\n") == "a\n<!-- x:begin -->\nnew\n<!-- x:end -->\nb\n"
    with pytest.raises(ValueError, match="no block"):
        build.replace_block(text, "y", "")


def test_speed_table_has_ratio_and_target() -> None:
    row = {
        "benchmark": "sdsc",
        "case": "SDSC-SP2 fcfs+easy",
        "jobs": 54034,
        "jobs_per_s": 61234.5,
        "ratio_cpu": 1.5,
        "targets": [{"figure": "jobs_per_s", "at_least": 40000, "value": 61234.5, "reached": True}],
    }
    document = {
        "machine": {"cpu": "CPU", "cores": 2, "time": "2026-01-02T03:04:05Z"},
        "versions": {"python": "3.11.7"},
        "benchmarks": [row, {"benchmark": "logs", "case": "ricc", "skipped": "absent"}],
    }
    table = build.speed_table(document)
    assert "| SDSC-SP2 fcfs+easy | 54,034 | 61,234 | 1.50 | jobs_per_s ≥ 40,000: reached |" in table
    assert "ricc" not in table
