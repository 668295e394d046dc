"""Patches: a pure function of seed and step, even over pixels, any image size; what is held out stays out."""

import numpy as np
import pytest
import torch

from dbsn.config import Training
from dbsn.inference.lattices import lattices
from dbsn.intensity import intensity_range
from dbsn.tensors import as_tensor
from dbsn.training.patches import Batch, ImageSet, Patches


def patches_of(images: list[np.ndarray], *, size: int = 12, batch: int = 8, spacing: int = 3, seed: int = 0) -> Patches:
    data = ImageSet(images=images, measurements=[torch.full((1, 1, 1, 1), float(i)) for i in range(len(images))])
    config = Training(patch=size, batch=batch, seed=seed)
    return Patches(data, config, multiple=6, spacing=spacing, fill=-1.0)


def ramp(height: int, width: int) -> np.ndarray:
    """Every pixel's value is its own number, exactly."""
    return np.arange(height * width, dtype=np.float32).reshape(height, width, 1)


def same(first: Batch, second: Batch) -> bool:
    return torch.equal(first.noisy, second.noisy) and first.phase == second.phase


def test_a_steps_batch_is_the_same_whenever_it_is_asked_for_and_differs_from_every_other() -> None:
    images = [ramp(40, 50)]
    first, again = patches_of(images), patches_of(images)
    again(3)
    assert same(first(7), again(7))
    assert not same(first(7), first(8))
    assert not same(first(7), first(7, 1))
    assert not same(first(7), patches_of(images, seed=1)(7))


def test_small_images_are_drawn_more_often_so_that_their_pixels_count_the_same() -> None:
    batch = patches_of([ramp(6, 6), ramp(60, 60)], batch=4000, size=12)(0)
    pixels = torch.zeros(2).index_add(0, batch.measurement.flatten().long(), batch.valid.sum((1, 2, 3)))
    assert float(pixels[0] / pixels.sum()) == pytest.approx(36 / 3636, rel=0.3)


def test_images_are_drawn_in_proportion_to_their_pixels() -> None:
    drawn = patches_of([ramp(20, 20), ramp(40, 60)], batch=1000)(0).measurement.flatten()
    assert float(drawn.mean()) == pytest.approx(2400 / 2800, abs=0.04)


def test_every_pixel_is_seen_and_none_far_more_often_than_the_average() -> None:
    patches = patches_of([ramp(30, 40)], batch=500)
    counts = torch.zeros(1200)
    for step in range(8):
        seen = patches(step).noisy.flatten().long()
        counts += torch.bincount(seen, minlength=1200)
    share = counts / counts.mean()
    assert share.min() > 0.2
    assert share.max() < 2.5


def test_patches_are_flipped_and_transposed() -> None:
    noisy = patches_of([ramp(12, 12)], batch=64)(0).noisy
    corners = {tuple(int(patch[0, i, j]) for i, j in ((0, 0), (0, -1), (-1, 0))) for patch in noisy}
    assert len(corners) == 8


def test_the_truth_is_cut_where_its_noisy_image_is() -> None:
    images = [ramp(30, 40), ramp(6, 9)]
    data = ImageSet(images=images, measurements=[torch.zeros(1, 1, 1, 1)] * 2, truth=[image + 1e4 for image in images])
    batch = Patches(data, Training(patch=12, batch=50), multiple=6, spacing=3, fill=-1.0)(0)
    assert batch.truth is not None
    inside = batch.valid > 0
    torch.testing.assert_close(batch.truth[inside], batch.noisy[inside] + 1e4)


def test_an_image_smaller_than_a_patch_is_padded_and_the_padding_does_not_count() -> None:
    batch = patches_of([ramp(5, 7), ramp(30, 30)], size=12, batch=50)(0)
    assert batch.noisy.shape == (50, 1, 12, 12)
    small = batch.valid.sum((1, 2, 3)) < 144
    assert small.any()
    assert set(batch.valid[small].sum((1, 2, 3)).tolist()) == {35.0}
    assert (batch.noisy[batch.valid == 0] == -1).all(), "filled with what it was told to"


def test_the_patch_shrinks_to_the_largest_image_but_not_below_the_networks_multiple() -> None:
    assert patches_of([ramp(20, 20)], size=96).size == 18
    assert patches_of([ramp(3, 3)], size=96).size == 6


def test_a_network_without_phases_gets_whole_patches() -> None:
    batch = patches_of([ramp(30, 30)], spacing=1)(0)
    assert batch.phase is None
    assert batch.predicted.shape == (8, 1, 12, 12)
    assert patches_of([ramp(30, 30)])(0).predicted.shape == (8, 1, 4, 4)


def image_set(images: list[np.ndarray]) -> ImageSet:
    return ImageSet(images=images, measurements=[torch.tensor(float(image.max())) for image in images])


@pytest.mark.parametrize("count", [1, 3, 19, 20, 30, 100])
def test_held_out_pixels_are_never_learned_from(count: int) -> None:
    learned, held = image_set([ramp(40, 10) + 1000 * i for i in range(count)]).hold_out()
    first, second = (set(np.concatenate([image.ravel() for image in part.images])) for part in (learned, held))
    assert not first & second
    assert len(first | second) == 400 * count
    assert 0.02 < len(second) / (400 * count) < 0.15
    for part in (learned, held):
        for image, measurement in zip(part.images, part.measurements, strict=True):
            assert measurement.item() // 1000 == image[0, 0, 0] // 1000, "each keeps its own whole image's measurement"


@pytest.mark.parametrize("count", [3, 30])
def test_what_is_held_out_keeps_its_own_truth(count: int) -> None:
    images = [ramp(40, 10) + 1000 * i for i in range(count)]
    for part in ImageSet.of(images, lambda image: image.amax(), [image + 0.25 for image in images]).hold_out():
        assert len(part.truth) == len(part.images)
        for image, truth in zip(part.images, part.truth, strict=True):
            np.testing.assert_array_equal(truth, image + 0.25)


def test_pixels_of_one_photograph_are_not_both_learned_from_and_held_out() -> None:
    images = [part for i in range(25) for _, part in lattices(ramp(8, 8) + 1000 * i, 2)]
    learned, held = image_set(images).hold_out(siblings=4)
    first, second = ({int(image[0, 0, 0]) // 1000 for image in part.images} for part in (learned, held))
    assert second == {10}
    assert first == set(range(25)) - second


@pytest.mark.parametrize("size", [(7, 11), (1, 1), (2, 30)])
def test_lattices_are_every_nth_pixel_and_hold_each_pixel_once(size: tuple[int, int]) -> None:
    image = ramp(*size)
    seen = np.full_like(image, -1)
    for where, part in lattices(image, 3):
        assert part.size
        seen[where] = part
    np.testing.assert_array_equal(seen, image)
    parts = [part for _, part in lattices(ramp(7, 11), 3)]
    np.testing.assert_array_equal(parts[1], ramp(7, 11)[0::3, 1::3])


def test_a_single_row_is_learned_from_and_held_out_rather_than_lost() -> None:
    learned, held = image_set([ramp(1, 10)]).hold_out()
    assert learned.images[0].size == held.images[0].size == 10


def test_the_intensity_range_ignores_single_outliers_and_integers_span_their_type() -> None:
    image = np.full((400, 400, 1), 100.0, np.float32)
    image[:200] = 300.0
    image[0, 0] = 1e9
    assert intensity_range([image]) == pytest.approx((200.0, 100.0))
    integers = np.array([0, 255], np.uint8).repeat(80_000).reshape(400, 400, 1)
    assert intensity_range([integers]) == pytest.approx((0.5, 0.5))


def test_integers_and_floats_become_the_same_intensities() -> None:
    image = np.array([[[0], [51]], [[204], [255]]], np.uint8)
    torch.testing.assert_close(as_tensor(image).flatten(), torch.tensor([0.0, 0.2, 0.8, 1.0]))
    torch.testing.assert_close(as_tensor(image), as_tensor(image.astype(np.float64) / 255))


def test_an_image_that_cannot_be_written_to_is_read_all_the_same() -> None:
    image = ramp(4, 4)
    image.setflags(write=False)
    assert as_tensor(image).shape == (1, 1, 4, 4)


@pytest.mark.parametrize("scale", [1e-9, 1.0, 3e4])
def test_the_intensity_range_follows_the_images_unit(scale: float) -> None:
    middle, half = intensity_range([np.linspace(0, scale, 10_000, dtype=np.float32).reshape(100, 100, 1)])
    assert middle == pytest.approx(scale / 2, rel=1e-3)
    assert half == pytest.approx(scale / 2, rel=1e-2)
    assert intensity_range([np.zeros((4, 4, 1), np.float32)]) == (0.0, 1.0)
