"""When the parts of the stage-1 loss begin to pull."""

import pytest
import torch
from torch import Tensor

from dbsn.config import NETWORKS, ModelConfig, TrainConfig
from dbsn.models.blindspot import BlindSpotModel, Estimate
from dbsn.training.patches import Batch
from dbsn.training.selfsupervised import held_out_nll, self_supervised_loss


def gradient_sizes(share: float, config: TrainConfig, *, believed: bool = False) -> dict[str, float]:
    """Largest gradient of the mean's and of the noise estimate's last layer at this share of the budget."""
    torch.manual_seed(0)
    model = BlindSpotModel(ModelConfig(network=NETWORKS["grid-tiny"]))
    noisy = 0.5 + 0.3 * torch.randn(4, 1, 24, 24)
    batch = Batch(noisy=noisy, measurement=model.measure(noisy), valid=torch.ones_like(noisy), phase=(1, 1), spacing=3)
    # every pixel counts as flat, so that the noise estimate has something to learn from
    torch.nn.init.constant_(model.flatness.last.bias, 10.0)  # type: ignore[arg-type]
    if believed:  # the pixels: hardly any noise, and poor predictions
        torch.nn.init.constant_(model.noise_estimator.mlp.last.bias, -20.0)  # type: ignore[arg-type]
        torch.nn.init.constant_(model.prediction_head.last.bias, 3.0)  # type: ignore[arg-type]
    losses = self_supervised_loss(config)(model, batch, share)
    torch.stack(list(losses.terms.values())).sum().backward()
    layers = {"mean": model.network.to_mean.last, "noise": model.noise_estimator.mlp.last}
    return {name: float(layer.weight.grad.abs().max()) for name, layer in layers.items()}


@pytest.mark.parametrize("mean", ["fusion", "l2", "likelihood"])
@pytest.mark.parametrize("staged", [0.0, 0.3])
def test_the_mean_learns_from_the_start_and_the_noise_only_once_it_has_settled(mean: str, staged: float) -> None:
    config = TrainConfig(mean=mean, staged=staged)  # type: ignore[arg-type]
    early, later = gradient_sizes(0.05, config), gradient_sizes(0.5, config)
    assert early["mean"] > 0
    assert early["noise"] == 0
    assert later["mean"] > 0
    assert later["noise"] > 0


def test_what_learns_once_it_has_settled_begins_to_learn_gently_then() -> None:
    model = BlindSpotModel(ModelConfig(network=NETWORKS["grid-tiny"]))
    waits = {id(each): group.get("waits") for group in model.parameter_groups() for each in group["params"]}
    later = (model.noise_estimator.mlp, model.flatness, model.prediction_head)
    assert {waits[id(each)] for module in later for each in module.parameters()} == {0.1}
    assert {waits[id(each)] for module in (model.network, model.total_head) for each in module.parameters()} == {None}


def test_a_mean_that_the_fused_image_hardly_needs_is_held_all_the_same() -> None:
    staged, fused = (gradient_sizes(share, TrainConfig(), believed=True)["mean"] for share in (0.05, 0.5))
    assert fused > 0.02 * staged


def mean_and_noise(truth: float | None) -> tuple[float, float, torch.Tensor, torch.Tensor]:
    """Gradient of the mean's bias, the noise term, the noisy pixels and their noise variance, where every blind mean is
    0.5 and every pixel 0.5 or 0.7.
    """
    torch.manual_seed(0)
    model = BlindSpotModel(ModelConfig(network=NETWORKS["grid-tiny"]))
    last = model.network.to_mean.last
    torch.nn.init.zeros_(last.weight)  # type: ignore[arg-type]
    noisy = 0.5 + 0.2 * torch.rand(4, 1, 24, 24).round()
    known = None if truth is None else torch.full_like(noisy, truth)
    batch = Batch(
        noisy=noisy,
        measurement=model.measure(noisy),
        valid=torch.ones_like(noisy),
        phase=(1, 1),
        spacing=3,
        truth=known,
    )
    terms = self_supervised_loss(TrainConfig())(model, batch, 0.5).terms
    terms["mean"].backward()
    with torch.no_grad():
        estimate = model(noisy, batch.measurement, batch.phase)
    return float(last.bias.grad), terms["noise"].item(), estimate.noisy, estimate.noise_var  # type: ignore[arg-type]


def test_where_the_truth_is_known_the_mean_learns_from_it_and_the_noise_from_all_that_is_left() -> None:
    assert mean_and_noise(None)[0] < -0.01
    gradient, _, _, _ = mean_and_noise(0.5)
    assert gradient == 0
    _, noise, noisy, variance = mean_and_noise(0.6)
    assert noise == pytest.approx(float(((noisy - 0.6).square() / variance + variance.log()).mean() / 2), rel=1e-5)


class Believes(BlindSpotModel):
    """Knows the mean but for an error, and believes in constant variances."""

    def __init__(self, error: float, variance: float) -> None:
        super().__init__(ModelConfig(network=NETWORKS["grid-tiny"]))
        self.error, self.variance = error, torch.full((1, 1, 64, 64), variance)

    def forward(self, noisy: Tensor, *_: object, **__: object) -> Estimate:
        ripple = self.error * torch.ones(64).cumsum(0).sin()
        kinds = dict.fromkeys(("mean_var", "noise_var", "total_var"), self.variance)
        return Estimate(noisy=noisy, mean=0.5 + ripple.expand_as(noisy), flat_below=self.variance[:, 0], **kinds)


def test_the_better_mean_is_picked_though_its_variances_are_all_too_large() -> None:
    torch.manual_seed(0)
    crops = [(0.5 + 0.1 * torch.randn(1, 1, 64, 64), torch.zeros(1, 2, 1, 1)) for _ in range(3)]
    worse, better = Believes(0.05, 0.006), Believes(0.01, 0.03)  # 0.005 each would be right
    assert held_out_nll(better, crops) < held_out_nll(worse, crops)
