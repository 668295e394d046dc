"""Stage 2: the two paired sets, what is minimised, and what picks the best student."""

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image as PillowImage
from taught import CLEAN, CONFIG, MODEL, known, pairs_of
from torch import Tensor
from torch.testing import assert_close

import dbsn.training.distill
import dbsn.training.loop
import dbsn.training.teacher
from dbsn.cli.display import describe_clean
from dbsn.config import STUDENTS, DistillConfig, ModelConfig, StudentConfig, UNetConfig
from dbsn.inference.blindspot import predict
from dbsn.models.blindspot import BlindSpotModel
from dbsn.models.student import Student, cells
from dbsn.networks.measurement import measured_variance
from dbsn.noise.inspection import flaws
from dbsn.noise.learned import NoiseModel
from dbsn.noise.pooling import shared
from dbsn.noise.recording import Recording
from dbsn.store.tensors import load_tensors
from dbsn.training.distill import distillation_loss, recalibrate
from dbsn.training.held_out import HeldOut, stein_risk
from dbsn.training.pairs import PairedPatches, Pairs, simulated_level
from dbsn.training.stages import clean_like
from dbsn.training.teacher import recalled, some_of, teach


def patches(config: DistillConfig) -> PairedPatches:
    return PairedPatches(known(), CLEAN, config, multiple=4, fill=0.5)


def test_an_eighth_of_a_batch_is_noisy_images_with_the_teachers_result_the_rest_clean_ones_with_noise() -> None:
    pairs = patches(CONFIG)(0)
    assert pairs.first == 1
    assert pairs.noisy.shape == pairs.target.shape == (8, 1, 32, 32)
    level = float(pairs.target[0].mean()) - 0.01
    assert float(pairs.target[0].std()) < 1e-6
    assert float(pairs.noisy[0].mean()) == pytest.approx(level, abs=0.01)
    clean = pairs.target[1:].flatten(1)
    assert set(np.unique(clean.numpy().round(4))) <= {np.float32(round(200 / 255, 4)), np.float32(round(100 / 255, 4))}
    noise = pairs.noisy[1:] - pairs.target[1:]
    assert float(noise.std()) == pytest.approx(0.05, rel=0.15)
    assert pairs.noise_var.sqrt().flatten().tolist() == pytest.approx([0.05] * 8, rel=0.15)


def test_a_batch_is_a_function_of_seed_and_step_and_noise_is_always_fresh() -> None:
    first, again, later = patches(CONFIG)(3), patches(CONFIG)(3), patches(CONFIG)(4)
    assert torch.equal(first.noisy, again.noisy)
    assert not torch.equal(first.noisy, later.noisy)
    assert not torch.equal(first.noisy, patches(replace(CONFIG, seed=1))(3).noisy)


@pytest.mark.parametrize(("share", "first"), [(0.0, 0), (1.0, 8), (0.5, 4)])
def test_either_set_may_be_left_alone(share: float, first: int) -> None:
    assert patches(replace(CONFIG, noisy_share=share))(0).first == first


def test_known_noise_may_take_the_place_of_the_learned_one() -> None:
    pairs = patches(replace(CONFIG, noisy_share=0.0, noise="awgn:50"))(0)
    assert float((pairs.noisy - pairs.target).std()) == pytest.approx(50 / 255, rel=0.05)
    assert pairs.noise_var.sqrt().flatten().tolist() == pytest.approx([50 / 255] * 8)


def test_the_baselines_learn_from_clean_images_and_from_second_copies() -> None:
    config = replace(CONFIG, noise="awgn:50")
    supervised = patches(replace(config, baseline="n2c"))(0)
    assert supervised.first == 0
    assert float(supervised.target.flatten(1).std(1).max()) < 1e-6
    copies = patches(replace(config, baseline="n2n"))(0)
    assert copies.first == 0
    assert torch.equal(copies.noisy, supervised.noisy)
    noise = (copies.target - supervised.target).flatten()
    assert float(noise.std()) == pytest.approx(50 / 255, rel=0.05)
    other = (copies.noisy - supervised.target).flatten()
    assert abs(float((noise * other).mean())) < 0.05 * float(noise.var())
    with pytest.raises(ValueError, match=r"--student\.noise beside it"):
        replace(CONFIG, baseline="n2n")


class Shrink(torch.nn.Module):
    """A linear denoiser, whose error is known."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = torch.nn.Parameter(torch.tensor(factor))

    def forward(self, noisy: Tensor) -> Tensor:
        return self.factor * noisy


def test_the_loss_is_each_sets_mean_error_in_noise_variances_and_a_tenth_of_set_ones_counts() -> None:
    student = Student(StudentConfig(network=UNetConfig(widths=(8,), blocks=(1,))))
    student.network = Shrink(1.0)
    noisy = torch.zeros(3, 1, 4, 4)
    target = torch.tensor([0.2, 0.3, 0.5]).reshape(3, 1, 1, 1).expand(3, 1, 4, 4)
    valid = torch.ones(3, 1, 4, 4)
    valid[1, :, 2:] = 0  # half of the second patch lies outside
    pairs = Pairs(
        noisy=noisy,
        target=target,
        noise_var=torch.ones(3, 1, 1, 1),
        error_unit=torch.tensor([0.01, 0.1, 0.2])[:, None, None, None],
        valid=valid,
        first=1,
    )
    terms = distillation_loss(CONFIG)(student, pairs, 0.5).terms
    assert terms["noisy"].item() == pytest.approx(0.1 * 0.2**2 / 0.01)
    assert terms["synthetic"].item() == pytest.approx((8 * 0.3**2 / 0.1 + 16 * 0.5**2 / 0.2) / 24)


@pytest.mark.parametrize("factor", [1.0, 0.7, 0.3])
def test_steins_estimate_is_the_true_error(factor: float) -> None:
    generator = torch.Generator().manual_seed(0)
    clean = torch.rand((1, 1, 400, 400), generator=generator)
    noise, fresh = (0.2 * torch.randn(clean.shape, generator=generator) for _ in range(2))
    denoiser = Shrink(factor)
    with torch.inference_mode():
        estimate = float(stein_risk(denoiser, clean + noise, fresh))
        true = float((denoiser(clean + noise) - clean).square().mean() / 0.2**2)
    assert estimate == pytest.approx(true, abs=0.02, rel=0.02)


def test_steins_estimate_is_not_made_of_what_bf16_rounds_off() -> None:
    torch.manual_seed(0)
    student = Student(StudentConfig(network=STUDENTS["unet-tiny"]))
    for parameter in student.parameters():
        parameter.data.add_(0.1 * torch.randn_like(parameter))
    noisy, noise = torch.rand(1, 1, 64, 64), 0.1 * torch.randn(1, 1, 64, 64)
    with torch.inference_mode():
        exact, plain = stein_risk(student, noisy, noise), student(noisy)
        with torch.autocast("cpu", torch.bfloat16):
            assert not torch.equal(student(noisy).float(), plain)
            assert torch.equal(stein_risk(student, noisy, noise), exact)


def test_noise_and_jpeg_blocks_of_clean_images_are_found() -> None:
    ramp = np.linspace(0, 1, 256) * np.linspace(0.3, 1, 200)[:, None]
    random = np.random.default_rng(0)
    texture = ramp + 0.05 * np.sin(np.arange(256) * 0.3) * np.sin(np.arange(200) * 0.2)[:, None]
    clean = np.rint(texture.clip(0, 1) * 255).astype(np.uint8)
    level, blocks = flaws(clean[..., None])
    assert level < 1.5 / 255
    assert blocks < 0.2 / 255
    noisy = (texture + random.normal(0, 0.03, texture.shape)).clip(0, 1).astype(np.float32)
    assert flaws(noisy[..., None])[0] == pytest.approx(0.03, rel=0.3)
    coded = io.BytesIO()
    PillowImage.fromarray(clean).save(coded, "JPEG", quality=15)
    blocky = np.asarray(PillowImage.open(coded))[..., None]
    assert flaws(blocky)[1] > 0.5 / 255
    assert flaws(blocky[3:, 5:])[1] > 0.5 / 255, "wherever the blocks lie"
    files = [Path(name) for name in ("blocky.jpg", "good.png", "loud.tif")]
    said = describe_clean([blocky, clean[..., None], np.rint(255 * noisy[..., None]).astype(np.uint8)], files, 1)
    assert said.startswith("3 images; noise, or texture everywhere, in 1 (up to 7.")
    assert "of 255, loud.tif); JPEG blocks in 1, blocky.jpg; the student cannot" in said
    counts = [4000 * (clean[..., None] / np.float32(255)) + 10]
    assert describe_clean(counts, files[1:2], 1) == "1 image"
    few_bits = [np.rint(3000 * (clean[..., None] / np.float32(255))).astype(np.uint16)]  # 12 in files of 16
    assert describe_clean(few_bits, files[1:2], 1) == "1 image"
    loud = describe_clean([*counts, 4000 * noisy[..., None]], files[1:], 1)
    assert "everywhere, in 1 (up to 1" in loud
    assert "loud.tif" in loud
    assert "of 255" not in loud
    both = describe_clean([4000 * noisy[..., None], np.rint(255 * noisy[..., None]).astype(np.uint8)], files[:2], 1)
    assert "everywhere, in 2 (up to 1" in both, "each in its own unit"
    colour = clean[..., None].repeat(3, 2)
    assert describe_clean([clean[..., None], colour], files[:2], 3).startswith(
        "2 images; 1 gray ones are left out, because the noisy images are in colour"
    )


def test_large_sets_are_thinned_for_the_teacher() -> None:
    images = [np.broadcast_to(np.uint8(i), (4000, 3000, 1)) for i in range(10)]
    assert [int(image[0, 0, 0]) for image in some_of(images)] == [0, 5]
    assert len(some_of(images[:2])) == 2
    assert len(some_of([np.broadcast_to(np.uint8(0), (9000, 9000, 1))])) == 1


def test_what_the_teacher_said_is_kept_and_not_asked_again(tmp_path: Path) -> None:
    images = [np.random.default_rng(i).random((70, 65, 1), np.float32) for i in range(2)]
    assert list(teach(MODEL, images, tmp_path / "t")) == [0.5, 1.0]
    assert list(teach(MODEL, images, tmp_path / "t")) == []
    known = recalled(MODEL, images, tmp_path / "t")
    assert [result.shape for result in known.results] == [image.shape for image in images]
    assert np.abs(known.results[1] - predict(MODEL, images[1]).denoised).max() < 1e-3
    assert len(known.noise.images) == 2


def test_images_of_one_noise_share_it_while_the_teachers_file_keeps_each_ones_own(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    images = [random.normal(0.5, 0.05, (70, 65, 1)).astype(np.float32) for _ in range(9)]
    list(teach(MODEL, images, tmp_path / "whole"))
    begun = teach(MODEL, images, tmp_path / "t")
    assert [next(begun) for _ in range(8)] == pytest.approx([count / 9 for count in range(1, 9)])
    begun.close()
    list(teach(MODEL, images, tmp_path / "t"))
    (once, _), (twice, _) = (load_tensors(tmp_path / name) for name in ("whole", "t"))
    assert all(torch.equal(once[name], twice[name]) for name in once)
    noise = {name.removeprefix("noise/"): part for name, part in once.items() if name.startswith("noise/")}
    own = NoiseModel.from_tensors(MODEL, noise, Recording()).levels()
    assert max(own) > 1.01 * min(own)
    levels = shared(recalled(MODEL, images, tmp_path / "t").noise).levels()
    assert max(levels) == pytest.approx(min(levels), rel=5e-3)


def test_a_teacher_that_is_interrupted_goes_on_where_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images = [np.random.default_rng(i).random((70, 65, 1), np.float32) for i in range(3)]
    list(teach(MODEL, images, tmp_path / "whole"))
    begun = teach(MODEL, images, tmp_path / "t")
    assert next(begun) == pytest.approx(1 / 3)
    begun.close()
    assert list(teach(MODEL, images, tmp_path / "t")) == pytest.approx([2 / 3, 1.0])
    (once, _), (twice, _) = (load_tensors(tmp_path / name) for name in ("whole", "t"))
    assert once.keys() == twice.keys()
    assert all(torch.equal(once[name], twice[name]) for name in once)

    def interrupted(*_: object) -> Tensor:
        raise KeyboardInterrupt

    next(begun := teach(MODEL, images, tmp_path / "i"))
    with monkeypatch.context() as patch:
        patch.setattr(dbsn.training.teacher, "_in_network_units", interrupted)
        with pytest.raises(KeyboardInterrupt):
            next(begun)
    assert list(teach(MODEL, images, tmp_path / "i")) == pytest.approx([2 / 3, 1.0])
    monkeypatch.setattr(dbsn.training.teacher, "_SAVED_EVERY", 0.0)
    next(killed := teach(MODEL, images, tmp_path / "k"))
    assert len(recalled(MODEL, images, tmp_path / "k").results) == 1, "written while the teacher is still at work"
    killed.close()


def test_clean_images_are_turned_into_the_noisy_ones_kind() -> None:
    gray, colour = np.zeros((9, 9, 1), np.uint8), np.full((9, 9, 3), (255, 0, 0), np.uint8)
    for_gray = clean_like([gray, colour], [gray])
    assert [image.shape for image in for_gray] == [(9, 9, 1)] * 2
    assert int(for_gray[1][0, 0, 0]) == 76  # 0.299 of 255
    assert len(clean_like([gray, colour], [colour])) == 1
    with pytest.raises(ValueError, match="got no colour image, but the noisy ones are in colour"):
        clean_like([gray], [colour])
    counts = [np.linspace(100, 5000, 10_000, dtype=np.float32).reshape(100, 100, 1)]
    stretched = clean_like([np.array([0, 255], np.uint8).reshape(1, 2, 1)], counts)[0]
    assert stretched.flatten().tolist() == pytest.approx([100, 5000], rel=0.05)
    few_bits = [np.linspace(0, 4000, 10_000, dtype=np.uint16).reshape(100, 100, 1)]
    dark = clean_like([np.array([0, 255], np.uint8).reshape(1, 2, 1)], few_bits)[0]
    assert dark.flatten().tolist() == pytest.approx([0, 4000 / 65535], abs=1e-4)
    assert np.array_equal(clean_like(counts, counts)[0], counts[0]), "in the noisy images' own unit"
    assert clean_like(few_bits, few_bits)[0].dtype == np.uint16
    mixed = clean_like([*counts, np.array([0, 255], np.uint8).reshape(1, 2, 1)], counts)
    assert np.array_equal(mixed[0], counts[0])
    assert mixed[1].flatten().tolist() == pytest.approx([100, 5000], rel=0.05)


def test_no_noise_is_drawn_beyond_a_clean_image_that_is_smaller_than_a_patch() -> None:
    pairs = PairedPatches(known(), [CLEAN[0][:20]], replace(CONFIG, noisy_share=0.0), multiple=4, fill=0.5)(0)
    outside = pairs.valid.expand_as(pairs.noisy) == 0
    assert outside.any()
    assert torch.equal(pairs.noisy[outside], torch.full_like(pairs.noisy[outside], 0.5))
    assert float((pairs.noisy - pairs.target)[~outside].std()) == pytest.approx(0.05, rel=0.15)


def slopes(image: np.ndarray, shrink: float) -> Tensor:
    """How steep 200 clean patches of a ramp are, in its own steps, well inside each patch and the image."""
    config = replace(CONFIG, noisy_share=0.0, batch=200, shrink=shrink)
    target = PairedPatches(known(), [image], config, multiple=4, fill=0.5)(0).target[:, 0]
    middle = slice(target.shape[-1] // 4, -target.shape[-1] // 4)
    steps = [target.diff(dim=dim)[:, middle, middle].mean((1, 2)).abs() for dim in (1, 2)]
    return torch.maximum(*steps) / float(image[0, 1, 0] - image[0, 0, 0])


def test_clean_patches_are_shrunk_by_every_factor_up_to_the_one_asked_for() -> None:
    ramp = np.tile(np.linspace(0, 1, 200, dtype=np.float32)[:, None], (200, 1, 1))
    torch.testing.assert_close(slopes(ramp, 1.0), torch.ones(200), rtol=1e-3, atol=0)
    found = slopes(ramp, 2.0).sort().values
    expected = 2 ** torch.linspace(0, 1, 200)
    torch.testing.assert_close(found, expected, rtol=0.15, atol=0)


def test_what_a_shrunk_patch_has_beyond_a_small_image_does_not_count() -> None:
    config = replace(CONFIG, noisy_share=0.0, batch=50, shrink=2.0)
    pairs = PairedPatches(known(), [CLEAN[0][:20]], config, multiple=4, fill=0.5)(0)
    inside = pairs.valid[:, 0].sum((1, 2))
    width = pairs.target.shape[-1]
    assert float(inside.max()) <= 20 * width
    assert float(inside.min()) >= 9 * width
    assert torch.equal(pairs.noisy.where(pairs.valid == 0, 0), pairs.target.where(pairs.valid == 0, 0))


def chosen(dark: np.ndarray, bright: np.ndarray, among: int, shrink: float) -> float:
    """How often a patch of the bright one of two clean images is learned from."""
    config = replace(CONFIG, noisy_share=0.0, batch=400, patch=32, shrink=shrink, busiest_of=among)
    pairs = PairedPatches(known(), [dark + 0.2, bright + 0.8], config, multiple=4, fill=9.0)(0)
    brightness = (pairs.target * pairs.valid).sum((1, 2, 3)) / pairs.valid.sum((1, 2, 3))
    return float((brightness > 0.5).float().mean())


SKY = np.zeros((80, 80, 1), np.float32)
GRASS = np.random.default_rng(0).uniform(-0.02, 0.02, SKY.shape).astype(np.float32)
GRAVEL = np.kron(np.random.default_rng(0).choice([-0.04, 0.04], (20, 20)), np.ones((4, 4)))[..., None].astype(
    np.float32
)
SHADE = np.broadcast_to(np.linspace(-0.04, 0.04, 80, dtype=np.float32)[:, None, None], SKY.shape)


@pytest.mark.parametrize(
    ("dull", "busy", "among", "shrink", "expected"),
    [
        pytest.param(SKY, GRASS, 1, 1.0, 1 / 2, id="as they come"),
        pytest.param(SKY, GRASS, 3, 1.0, 1 - 1 / 8, id="grass rather than sky"),
        pytest.param(SHADE, GRASS, 3, 1.0, 1 - 1 / 8, id="grass rather than shade"),
        pytest.param(GRAVEL, GRASS, 3, 1.0, 1 - 1 / 8, id="fine rather than coarse"),
        pytest.param(GRASS, GRAVEL, 3, 8.0, 1 - 1 / 8, id="but not where shrinking takes it away"),
        pytest.param(SKY[:20], GRASS, 3, 1.0, 1 - (32 / 112) ** 3, id="the edge of a small image does not count"),
    ],
)
def test_of_so_many_clean_patches_the_one_with_the_most_detail_is_learned_from(
    dull: np.ndarray, busy: np.ndarray, among: int, shrink: float, expected: float
) -> None:
    assert chosen(dull, busy, among, shrink) == pytest.approx(expected, abs=0.05)


@pytest.mark.parametrize("batch", [2, 4])
def test_a_small_batch_still_has_both_sets(batch: int) -> None:
    pairs = patches(replace(CONFIG, batch=batch))(0)
    assert pairs.first == 1
    assert len(pairs.noisy) == batch


def test_counts_of_any_size_survive_the_teachers_file(tmp_path: Path) -> None:
    images = [np.random.default_rng(0).normal(1e6, 1e4, (70, 65, 1)).astype(np.float32)]
    model = BlindSpotModel(ModelConfig(offset=1e6, scale=2e4)).eval()
    list(teach(model, images, tmp_path / "t"))
    result = recalled(model, images, tmp_path / "t").results[0]
    assert np.abs(result - 1e6).max() < 1e5


@pytest.mark.parametrize(("alone", "chosen"), [(False, slice(2, None, 3)), (True, slice(2, None))])
def test_the_uncertainty_is_learned_from_every_third_clean_patch_or_alone_from_all(alone: bool, chosen: slice) -> None:
    torch.manual_seed(0)
    student = Student(StudentConfig(network=STUDENTS["unet-tiny"]))
    pairs = pairs_of([0.05, 0.3, 0.02, 0.05, 0.1, 0.2])
    denoised, std = student(pairs.noisy, with_std=True)
    missed = (denoised - pairs.target) / std
    wanted = 0.01 * (missed.square() / 2 + std.log() - pairs.error_unit.log() / 2)[chosen].mean()
    config = DistillConfig(uncertainty_alone=alone)
    assert_close(distillation_loss(config)(student, pairs, 0.5).terms["spread"], wanted)


def test_learning_the_uncertainty_leaves_the_results_alone() -> None:
    torch.manual_seed(0)
    student = Student(StudentConfig(network=STUDENTS["unet-tiny"]))
    torch.nn.init.normal_(student.network.last.get_parameter("weight"))
    pairs = pairs_of([0.05, 0.3, 0.02, 0.05])
    std, of_some = (student(pairs.noisy, with_std=those)[1] for those in (True, slice(2, None, 2)))
    assert_close(of_some, std[2::2])
    distillation_loss(DistillConfig())(student, pairs, 0.5).terms["spread"].backward()
    assert all(weight.grad is None for weight in student.network.parameters())
    assert student.spread is not None
    assert all(weight.grad is not None for weight in student.spread.parameters())


def test_a_recalibrated_uncertainty_is_as_large_as_what_is_missed() -> None:
    torch.manual_seed(0)
    student = Student(StudentConfig(network=STUDENTS["unet-tiny"]))
    torch.nn.init.normal_(student.network.last.get_parameter("weight"), std=0.01)
    held = [pairs_of([0.1, 0.2, 0.3, 0.4], seed) for seed in (1, 2)]
    for pairs in held:
        pairs.target[:2] -= 5
    for _ in range(2):  # the second time from another factor
        recalibrate(student, held)
        surprise = []
        for pairs in held:
            denoised, std = student(pairs.noisy, with_std=True)
            surprise.append(float(((denoised - pairs.target) / std).detach().square().mean()))
        assert np.mean(surprise) == pytest.approx(1, rel=1e-4)
        assert student.spread is not None
        assert abs(float(student.spread.factor) - 1) > 0.01
        student.spread.factor.fill_(7)


def test_a_guided_student_is_told_the_level_about_as_it_would_be_measured() -> None:
    generator = torch.Generator().manual_seed(0)
    noisy = torch.rand(1, 1, 32, 32, generator=generator).expand(4000, -1, -1, -1)  # texture throughout
    model, mean = MODEL, cells(noisy[:1], 4)
    alone = measured_variance(model.normalise(mean), model.measure(noisy[:1])).sqrt() * model.config.scale
    assert float(alone.mean()) > 0.2

    def told(level: float) -> Tensor:
        """What 2,000 patches or so are told that do not stand alone."""
        levels = simulated_level(lambda image: torch.full_like(image, level**2), noisy, model, 4, generator)
        stands_alone = (levels == alone).flatten(1).all(1)
        assert float(stands_alone.float().mean()) == pytest.approx(0.5, abs=0.03)
        return levels[~stands_alone, 0, 0, 0]

    assert float(told(0.1).median()) == pytest.approx(0.1, rel=0.01)
    assert float(told(0.1).log().std()) == pytest.approx(0.08, abs=0.01)
    # where there is no noise, texture is taken for it: exponential of mean 0.01 network units
    assert float(told(0.0).mean()) == pytest.approx(0.01 * model.config.scale, rel=0.06)


def test_both_sets_tell_a_guided_student_their_level_and_no_other_student_any() -> None:
    guided = PairedPatches(known(), CLEAN, CONFIG, multiple=4, fill=0.5, guided=True)(0)
    assert guided.level is not None
    assert guided.level.shape == (8, 1, 8, 8)
    levels = guided.level.mean((1, 2, 3))
    assert levels.tolist() == pytest.approx([0.05] * 8, rel=0.5)
    assert patches(CONFIG)(0).level is None


@pytest.mark.parametrize(("images", "squares"), [(1, 8), (2, 8), (3, 9), (8, 8), (20, 8)])
def test_a_few_held_out_images_are_looked_at_in_several_places_each_with_its_own_noise(
    images: int, squares: int
) -> None:
    clean = [np.random.default_rng(i).random((400, 300, 1), np.float32) for i in range(images)]
    config = replace(CONFIG, baseline="n2c", noise="any:60")
    held = HeldOut(known(), clean, config, None).synthetic
    assert len(held) == squares
    assert len({float(pairs.target[0, 0, 0, 0]) for pairs in held}) == squares
    assert len({float(pairs.noise_var) for pairs in held}) > squares // 2
    assert {pairs.target.shape for pairs in held} == {(1, 1, 192, 192)}


def test_what_is_held_out_is_as_sharp_as_what_is_learned_from() -> None:
    ramp = np.tile(np.linspace(0, 1, 500, dtype=np.float32)[:, None], (400, 1, 1))
    config = replace(CONFIG, baseline="n2c", noise="any:60", shrink=2.0)
    steps = [
        float(pairs.target.diff(dim=-1).mean()) * 499 for pairs in HeldOut(known(), [ramp], config, None).synthetic
    ]
    assert steps == pytest.approx([2 ** ((k + 0.5) / 8) for k in range(8)], rel=0.03)


def test_where_each_image_has_another_noise_errors_are_counted_in_its_standard_deviation() -> None:
    pairs = patches(replace(CONFIG, noisy_share=0.0, noise="any:60"))(0)
    expected = pairs.noise_var.clamp_min((2 / 255) ** 2).sqrt() * 10 / 255
    torch.testing.assert_close(pairs.error_unit, expected)
    assert float(pairs.noise_var.max() / pairs.noise_var.min()) > 10
    alike = patches(CONFIG)(0)
    assert torch.equal(alike.error_unit, alike.noise_var)
