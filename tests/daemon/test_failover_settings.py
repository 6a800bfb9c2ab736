"""The settings of failover: the file's defaults are the code's, wrong pairs are refused, the page has them all."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from shunter.daemon.config import Config, Failover, Leases, checked, conduct_of
from shunter.daemon.health_rules import FailoverRules, LeaseRules
from shunter.daemon.xids import XIDS
from shunter.scheduler.errors import ConfigError

PAGE = Path(__file__).resolve().parents[2] / "docs" / "reference" / "failover.md"


def test_a_file_that_says_nothing_gives_the_rules_of_the_code() -> None:
    assert conduct_of(Config()).leases == LeaseRules()
    assert set(Failover.model_fields) == {field.name for field in fields(FailoverRules)}


def test_what_a_file_says_arrives() -> None:
    said = {"blast_radius": 0.5, "fatal_xids": [31], "detector": "phi"}
    rules = conduct_of(checked({"failover": said, "leases": {"probation_s": 7.0}}, "here")).leases
    assert (rules.failover.blast_radius, rules.failover.fatal_xids, rules.failover.detector) == (0.5, (31,), "phi")
    assert rules.probation_s == 7.0


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ({"blast_radius": 0}, "failover.blast_radius: "),
        ({"blast_radius": 1.5}, "failover.blast_radius: "),
        ({"detector": "gossip"}, "failover.detector: "),
        ({"phi_threshold": 40}, "failover.phi_threshold: "),
        ({"thermal_limit": 80}, "did you mean 'thermal_limit_c'"),
        ({"black_hole_kinds": 6}, "black_hole_kinds: 6 is above black_hole_jobs"),
        ({"black_hole_start_s": 601}, "black_hole_start_s: is above black_hole_window_s"),
        ({"flapping_probation_s": 9}, "flapping_probation_s: 9 is below leases.probation_s"),
        ({"fatal_xids": [31, 43], "ignored_xids": [43]}, "ignored_xids: [43] stand among fatal_xids too"),
    ],
)
def test_settings_that_cannot_be_are_refused_with_their_path(said: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        checked({"failover": said}, "here")
    assert message in str(caught.value)


def test_the_page_tells_every_setting_with_its_default_and_every_code() -> None:
    text = PAGE.read_text()
    told = dict(re.findall(r"^\| `([a-z]+\.[a-z0-9_]+)` \| ([^|]+?) \|", text, re.MULTILINE))
    for section, model in (("leases", Leases), ("failover", Failover)):
        for name, setting in model.model_fields.items():
            default = setting.default
            shown = "none" if default == () else str(default) if isinstance(default, str) else f"{default:g}"
            assert told.pop(f"{section}.{name}") == shown, name
    assert told == {}
    codes = [int(code) for code in re.findall(r"^\| (\d+) \| ", text, re.MULTILINE)]
    assert sorted(codes) == sorted(XIDS)
