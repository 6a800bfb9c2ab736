"""Help, version, completion: what a newcomer types first."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.e2e.conftest import Shunter

VERBS = [
    ["simulate"], ["compare"], ["demo"], ["traces", "list"], ["traces", "info"], ["traces", "import"],
    ["traces", "convert"], ["traces", "generate"], ["traces", "fit"], ["traces", "fetch"],
]  # fmt: skip


@pytest.mark.parametrize("verb", VERBS, ids=" ".join)
def test_every_verb_has_help_with_an_example(shunter: Shunter, verb: list[str]) -> None:
    ran = shunter(*verb, "--help")
    assert ran.code == 0
    assert "Example" in ran.out
    assert f"shunter {' '.join(verb)}" in " ".join(ran.out.split())


def test_version_and_unknown_verbs(shunter: Shunter, shunter_process: Shunter) -> None:
    assert shunter_process("--version").out.startswith("shunter 0.")
    assert shunter("frobnicate").code == 2
    assert shunter().code in (0, 2)


def test_shell_completion_is_there(shunter: Shunter) -> None:
    assert "--install-completion" in shunter("--help").out


def test_the_replaying_command_is_there_before_numpy_is() -> None:
    program = "import sys, shunter.cli.simulate; sys.exit('numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
