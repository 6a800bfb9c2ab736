"""Model bundles: a folder with a network, its card and figures; written, checked, and loaded as a scoring function.

Needs neither torch nor ``onnx``: networks run in ONNX Runtime on one thread. A network of the kind ``kernel`` is
rebuilt from its weights and scored by the core's compiled function, in replays of either engine to the same bit; it is
held to ONNX Runtime when it is loaded. What does not fit is refused with the file and the field.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from shunter.agents.onnx_files import INPUT, OUTPUT, kernel_network
from shunter.scheduler.errors import BundleError, nearest
from shunter.scheduler.features import FEATURES, SCHEMA
from shunter.scheduler.guard import Seen
from shunter.scheduler.learned import KernelScorer
from shunter.scheduler.policies.registry import ChosenOrdering, Scorer, choose_ordering
from shunter.scheduler.types import FloatArray
from shunter.traces.bundles import CARD, FIGURES, MODEL, card_fields, read_bundle, session_of, sha256_of
from shunter.traces.folders import write_whole

if TYPE_CHECKING:
    from shunter.scheduler.kernels.network import Network

CARD_VERSION = 1
KINDS = ("kernel", "linear", "attention")
TRAINED_ON = ("general", "as-published")

SHIPPED = {"learned": "shipped", "tuned-linear": "tuned_linear"}
"""Policies that come with the package, and their folders."""

PARITY = 1e-5
"""Largest difference between the compiled scores and ONNX Runtime's, over the spread of the scores."""

PROBES = 256
"""Random queues' jobs on which the two are compared."""


@dataclass(frozen=True, slots=True)
class Card:
    """What a model is and where it comes from.

    Attributes:
        kind: ``kernel`` (scores each job by itself), ``linear`` (a kernel without hidden units: a weighted sum of
            features) or ``attention`` (looks at the whole queue).
        low: (F,) least value of each feature seen in training.
        high: (F,) largest.
        trained_on: ``general`` (other periods, other logs, generated loads) or ``as-published`` (windows of the very
            jobs that a published protocol tests on).
        traces: What it was trained on: name, sha256, and ``first`` and ``last`` job of each period, by role.
        seeds: Of training.
        objective: What was optimised, in words.
        command: That trained it.
        versions: Of packages.
        evaluation: Tables of results.
        notes: Anything else.
        features: The schema of its features.
        model_sha256: Of ``model.onnx``; written with the bundle.
        version: Of the card's layout.
    """

    kind: str
    low: tuple[float, ...]
    high: tuple[float, ...]
    trained_on: str = "general"
    traces: tuple[Mapping[str, Any], ...] = ()
    seeds: tuple[int, ...] = ()
    objective: str = ""
    command: str = ""
    versions: Mapping[str, str] = field(default_factory=dict)
    evaluation: Mapping[str, Any] = field(default_factory=dict)
    notes: str = ""
    features: Mapping[str, Any] = field(default_factory=SCHEMA.as_json)
    model_sha256: str = ""
    version: int = CARD_VERSION

    def __post_init__(self) -> None:
        if self.version != CARD_VERSION:
            raise BundleError(f"version: {self.version!r}, this program reads {CARD_VERSION}")
        for name, known in (("kind", KINDS), ("trained_on", TRAINED_ON)):
            value = getattr(self, name)
            if value not in known:
                raise BundleError(f"{name}: unknown {value!r}{nearest(str(value), list(known))}")
        self._check_schema()
        for name in ("low", "high"):
            values = getattr(self, name)
            if len(values) != SCHEMA.size or not all(isinstance(v, int | float) and not np.isnan(v) for v in values):
                raise BundleError(f"{name}: expected {SCHEMA.size} numbers, one a feature")
        for i, (low, high) in enumerate(zip(self.low, self.high, strict=True)):
            if low > high:
                raise BundleError(f"low: {low} of feature {FEATURES[i].name!r} is above its high {high}")

    def _check_schema(self) -> None:
        mine = SCHEMA.as_json()
        if not isinstance(self.features, Mapping):
            raise BundleError("features: not a feature schema")
        for name, value in mine.items():
            if self.features.get(name) != value:
                raise BundleError(
                    f"features.{name}: {self.features.get(name)!r}, this program has {value!r}: the model was trained "
                    "with other features and has to be trained anew"
                )

    @classmethod
    def from_json(cls, document: object) -> Card:
        """A card from its JSON document.

        Raises:
            BundleError: A field is missing, unknown or out of range; says which.
        """
        if not isinstance(document, dict):
            raise BundleError("not a JSON object")
        if document.get("version") != CARD_VERSION:
            raise BundleError(f"version: {document.get('version')!r}, this program reads {CARD_VERSION}")
        required = ("kind", "low", "high", "features", "model_sha256")
        given = card_fields(cls, document, required=required, lists=("low", "high", "traces", "seeds"))
        return cls(**given)

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


@dataclass(frozen=True)
class Bundle:
    """A loaded bundle.

    Attributes:
        path: Its folder.
        card: What it is.
        onnx: The network's file.
    """

    path: Path
    card: Card
    onnx: bytes

    def network(self) -> Network | None:
        """The compiled network; None where the kind is another."""
        return self._network

    def scorer(self) -> Scorer:
        """Scores of the (Q, F) features of a queue, lower first."""
        network = self._network
        return KernelScorer(network) if network is not None else self._runtime_scores

    def ordering(self, settings: str = "", label: str | None = None) -> ChosenOrdering:
        """The ordering ``learned`` with this model.

        Args:
            settings: The guard's, ``key=value,…``.
            label: What tables call it; ``model:NAME`` by default, with the name of the folder.

        Raises:
            UsageError: An unknown setting.
        """
        return replace(
            choose_ordering(f"learned:{settings}"),
            scorer=self.scorer(),
            seen=Seen(np.asarray(self.card.low, np.float64), np.asarray(self.card.high, np.float64)),
            model=label or f"model:{self.path.resolve().name}",
            model_sha256=self.card.model_sha256,
        )

    @cached_property
    def _network(self) -> Network | None:
        if self.card.kind == "attention":
            return None
        try:
            network = kernel_network(self.onnx, SCHEMA.size)
        except BundleError as error:
            raise BundleError(f"{self.path / MODEL}: {error}") from None
        if self.card.kind == "linear" and len(network.w3):
            raise BundleError(f"{self.path / MODEL}: it has {len(network.w3)} hidden units, but its kind is 'linear'")
        return network

    def _runtime_scores(self, features: FloatArray) -> FloatArray:
        found = self._session.run([OUTPUT], {INPUT: np.asarray(features, dtype=np.float32)})[0]
        return np.asarray(found, dtype=np.float64).reshape(len(features))

    @cached_property
    def _session(self) -> Any:
        try:
            return session_of(self.onnx)
        except BundleError as error:
            raise BundleError(f"{self.path / MODEL}: {error}") from None

    def check(self) -> None:
        """Make sure that the network takes and gives what it should, and that compiled scores are its scores.

        Raises:
            BundleError: It does not; says in what.
        """
        file = self.path / MODEL
        session = self._session
        for what, found, name in (("input", session.get_inputs(), INPUT), ("output", session.get_outputs(), OUTPUT)):
            if [value.name for value in found] != [name]:
                raise BundleError(f"{file}: {what}s {[value.name for value in found]}, expected [{name!r}]")
            if found[0].type != "tensor(float)":
                raise BundleError(f"{file}: {what} {name!r} is {found[0].type}, expected tensor(float)")
        shape = session.get_inputs()[0].shape
        if len(shape) != 2 or isinstance(shape[0], int) or shape[1] != SCHEMA.size:
            raise BundleError(f"{file}: input {INPUT!r} has shape {shape}, expected ['jobs', {SCHEMA.size}]")
        probe = self._probe()
        try:
            theirs = self._runtime_scores(probe)
        except Exception as error:  # ONNX Runtime's errors have no common base
            raise BundleError(f"{file}: cannot score {PROBES} jobs: {str(error).splitlines()[0]}") from None
        if not np.isfinite(theirs).all():
            raise BundleError(f"{file}: scores of usual features are no finite numbers")
        if self._network is None:
            return
        mine = KernelScorer(self._network)(probe)
        spread = max(float(np.ptp(theirs)), float(np.finfo(np.float32).tiny))
        difference = float(np.abs(mine - theirs).max()) / spread
        if difference > PARITY:
            raise BundleError(
                f"{file}: its graph does not score as its weights do (kind {self.card.kind!r}): difference "
                f"{difference:.1e} of the spread, at most {PARITY:.0e}"
            )

    def _probe(self) -> FloatArray:
        """(PROBES, F) features as they were seen in training, with usual ends where there was none."""
        low = np.maximum(self.card.low, [feature.low - 1.0 for feature in FEATURES])
        high = np.maximum(low, np.minimum(self.card.high, [feature.high + 1.0 for feature in FEATURES]))
        drawn: FloatArray = np.random.default_rng(0).uniform(low, high, (PROBES, SCHEMA.size))
        return drawn.astype(np.float32).astype(np.float64)


def load_bundle(path: Path) -> Bundle:
    """A bundle, checked.

    Raises:
        BundleError: A file is missing or damaged, or the model does not fit this program; says which field.
    """
    card, onnx = read_bundle(path, Card.from_json, lambda card: card.model_sha256, what="a model bundle")
    bundle = Bundle(path, card, onnx)
    bundle.check()
    return bundle


def write_bundle(folder: Path, onnx: bytes, card: Card, figures: Mapping[str, bytes] | None = None) -> Bundle:
    """Write a bundle, whole or not at all; one that stood there before is replaced.

    Args:
        folder: Where.
        onnx: The network.
        card: Its card; the checksum of the network is filled in.
        figures: Name of a file in ``figures`` → its contents.

    Raises:
        BundleError: The network does not fit the card.
        OutputError: The folder cannot be written, or holds something else.
    """
    card = replace(card, model_sha256=sha256_of(onnx))
    Bundle(folder, card, onnx).check()
    text = json.dumps(card.as_json(), indent=1, sort_keys=True) + "\n"
    drawn = {f"{FIGURES}/{name}": contents for name, contents in (figures or {}).items()}
    write_whole(folder, {MODEL: onnx, CARD: text.encode()} | drawn, mark=CARD, what="model bundle", folders=(FIGURES,))
    return load_bundle(folder)


def shipped(name: str = "learned") -> Path:
    """The folder of a policy that comes with the package: ``learned``, or the control ``tuned-linear``.

    Raises:
        BundleError: This installation has none.
    """
    folder = Path(__file__).resolve().parent / SHIPPED[name]
    if not (folder / CARD).exists():
        raise BundleError(
            f"no policy {name!r} comes with this installation: train one with `shunter train policy`, and name its "
            "folder with --policy model:FOLDER"
        )
    return folder
