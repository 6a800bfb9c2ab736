"""Samples made smaller: nothing that matters is lost on the way."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from shunter.daemon.node.changes import DEAD_BANDS, WHOLE_EVERY, Compressor
from shunter.daemon.pb import nodes_pb2

pb: Any = nodes_pb2


def sample(at: float, **gpu: Any) -> Any:
    return pb.NodeSample(at_unix_s=at, cpu_utilisation=0.5, gpus=[{"index": 0, "temperature_c": 50.0} | gpu])


def test_only_what_has_changed_is_sent() -> None:
    compressor = Compressor()
    assert not compressor.compress(sample(0, power_w=100.0)).is_change
    still = compressor.compress(sample(1, power_w=104.0))  # less than matters
    assert (still.is_change, len(still.gpus), still.HasField("cpu_utilisation")) == (True, 0, False)
    moved = compressor.compress(sample(2, power_w=108.0))  # small steps add up against what was told
    assert [(gpu.power_w, gpu.HasField("temperature_c")) for gpu in moved.gpus] == [(108.0, False)]


def test_what_a_change_cannot_say_makes_a_whole_sample() -> None:
    for before, after in (
        ({"power_w": 1.0}, {}),
        ({}, {"fault": "lost"}),
        ({"fault": "lost"}, {}),
        ({"processes": [{"pid": 1}]}, {}),
        ({"processes": [{"pid": 1}]}, {"processes": [{"pid": 2}]}),
    ):
        compressor = Compressor()
        compressor.compress(sample(0, **before))
        assert not compressor.compress(sample(1, **after)).is_change


def test_every_twelfth_and_the_first_of_a_session_are_whole() -> None:
    compressor = Compressor()
    kinds = [compressor.compress(sample(at)).is_change for at in range(2 * WHOLE_EVERY)]
    assert kinds == ([False] + [True] * (WHOLE_EVERY - 1)) * 2
    compressor.reset()
    assert not compressor.compress(sample(99)).is_change


def test_counters_have_no_dead_band_and_xids_are_always_told() -> None:
    compressor = Compressor()
    compressor.compress(sample(0, ecc_uncorrected=0, throttle_reasons=0))
    change = compressor.compress(sample(1, ecc_uncorrected=1, throttle_reasons=4, xids=[79]))
    assert change.is_change
    assert (change.gpus[0].ecc_uncorrected, change.gpus[0].throttle_reasons, list(change.gpus[0].xids)) == (1, 4, [79])


VALUES = st.one_of(st.none(), st.floats(0, 200))


@given(st.lists(st.tuples(VALUES, VALUES, st.one_of(st.none(), st.integers(0, 5))), min_size=1, max_size=40))
def test_a_reader_that_joins_changes_sees_what_is(rows: list[tuple[float | None, float | None, int | None]]) -> None:
    compressor = Compressor()
    joined = pb.NodeSample()
    for at, (temperature, power, ecc) in enumerate(rows):
        gpu = {"temperature_c": temperature, "power_w": power, "ecc_corrected": ecc}
        now = pb.NodeSample(at_unix_s=at, gpus=[{"index": 0} | {k: v for k, v in gpu.items() if v is not None}])
        sent = pb.NodeSample.FromString(compressor.compress(now).SerializeToString())
        if not sent.is_change:
            joined = sent
        for part in sent.gpus if sent.is_change else ():
            joined.gpus[part.index].MergeFrom(part)
        for name, value in gpu.items():
            assert joined.gpus[0].HasField(name) == (value is not None)
            if value is not None:
                assert abs(getattr(joined.gpus[0], name) - value) <= DEAD_BANDS.get(name, 0.0)
