"""Queue networks: the order of the rows does not matter, padding does not, and all their forms score alike."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs shunter[train]")

from shunter.agents.networks import (  # noqa: E402
    KINDS,
    AttentionNetwork,
    KernelNetwork,
    QueueNetwork,
    from_compiled,
    num_parameters,
    one_queue,
    pack,
    to_compiled,
)
from shunter.scheduler.kernels.features import NUM_FEATURES  # noqa: E402
from shunter.scheduler.kernels.network import new_network, score_row  # noqa: E402

torch.set_num_threads(1)


def trained(kind: str, seed: int = 0) -> QueueNetwork:
    """A network in which every parameter has a say."""
    torch.manual_seed(seed)
    network = KINDS[kind]()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return network


def queues(lengths: list[int], places: int, seed: int = 1) -> torch.Tensor:
    """Observations (B, K, F + 1) of queues of the given lengths; what stands on empty places is rubbish."""
    observation = torch.randn(len(lengths), places, NUM_FEATURES + 1, generator=torch.Generator().manual_seed(seed))
    observation[:, :, -1] = 0.0
    for queue, length in enumerate(lengths):
        observation[queue, :length, -1] = 1.0
    return observation


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_permuting_the_queue_permutes_the_scores(kind: str) -> None:
    network, features = trained(kind), queues([40], 40)[0, :, :-1]
    order = torch.randperm(40, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        scores = network(features)
        torch.testing.assert_close(network(features[order]), scores[order], rtol=0.0, atol=1e-5)
    assert scores.std() > 0.1


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_a_queue_among_others_scores_as_it_does_alone(kind: str) -> None:
    network, batch = trained(kind), queues([7, 0, 30, 1], 32)
    with torch.no_grad():
        spread = pack(batch).spread(network.encode(pack(batch))[0], float("nan"))
        for queue, length in enumerate([7, 0, 30, 1]):
            alone = network(batch[queue, :length, :-1])
            torch.testing.assert_close(spread[queue, :length], alone, rtol=0.0, atol=1e-5)
            assert torch.isnan(spread[queue, length:]).all()


def test_attention_looks_at_the_other_jobs_and_the_kernel_does_not() -> None:
    features = queues([10], 10)[0, :, :-1]
    others = features.clone()
    others[1:] += 1.0
    with torch.no_grad():
        for kind, differs in (("kernel", False), ("attention", True)):
            network = trained(kind)
            assert (abs(network(features)[0] - network(others)[0]) > 1e-4) == differs


def test_pooling_is_the_mean_over_the_jobs_of_each_queue() -> None:
    batch = pack(queues([3, 0, 5], 8))
    mean = batch.mean(batch.rows)
    torch.testing.assert_close(mean[0], batch.rows[:3].mean(0))
    torch.testing.assert_close(mean[1], torch.zeros(NUM_FEATURES))
    torch.testing.assert_close(mean[2], batch.rows[3:].mean(0))


def test_spread_and_gather_are_inverse() -> None:
    batch = pack(queues([3, 0, 5], 8))
    assert torch.equal(batch.gather(batch.spread(batch.rows, 0.0)), batch.rows)
    assert batch.longest == 5


def test_the_compiled_network_scores_as_the_torch_one() -> None:
    network, features = trained("kernel"), queues([50], 50)[0, :, :-1]
    assert isinstance(network, KernelNetwork)
    compiled = to_compiled(network)
    scores = [score_row(compiled, row) for row in features.numpy().astype(np.float64)]
    np.testing.assert_allclose(scores, network(features).detach().numpy(), atol=1e-5)


def test_from_compiled_undoes_to_compiled() -> None:
    network = trained("kernel")
    assert isinstance(network, KernelNetwork)
    again = from_compiled(to_compiled(network))
    for name, parameter in network.named_parameters():
        assert torch.equal(parameter, dict(again.named_parameters())[name])


def test_a_linear_score_becomes_a_network_of_the_same_order() -> None:
    weights = np.linspace(-1.0, 1.0, NUM_FEATURES)
    network, features = from_compiled(new_network(weights)), queues([20], 20)[0, :, :-1]
    np.testing.assert_allclose(network(features).detach().numpy(), features.numpy() @ weights, atol=1e-5)
    assert len(network.w3) > 0


def test_attention_is_small_and_new_networks_have_no_opinion() -> None:
    assert num_parameters(AttentionNetwork()) <= 30_000
    features = queues([5], 5)[0, :, :-1]
    for kind in KINDS.values():
        assert torch.equal(kind()(features), torch.zeros(5))
        assert kind().encode(one_queue(features))[1].abs().sum() > 0


def test_the_fast_form_of_the_kernel_has_the_scores_and_gradients_of_its_definition() -> None:
    """More rows than are worked on at once; gradients reach every weight through scores and through the trunk."""
    network = trained("kernel")
    assert isinstance(network, KernelNetwork)
    batch = pack(queues([300] * 20, 300))
    weight = torch.randn(len(batch.rows), generator=torch.Generator().manual_seed(5))
    scores, known = network.encode(batch)
    (scores @ weight / 100 + known.pow(2).mean()).backward()
    fast = {name: parameter.grad.clone() for name, parameter in network.named_parameters()}
    network.zero_grad()
    hidden = torch.relu(torch.relu(batch.rows @ network.w1.T + network.b1) @ network.w2.T + network.b2)
    slow_scores = network(batch.rows)
    (slow_scores @ weight / 100 + hidden.pow(2).mean()).backward()
    torch.testing.assert_close(scores, slow_scores)
    for name, parameter in network.named_parameters():
        torch.testing.assert_close(fast[name], parameter.grad, rtol=1e-4, atol=1e-4)
