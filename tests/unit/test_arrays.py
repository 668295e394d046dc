"""Whatever holds an image is denoised, and comes back as it was."""

import pickle

import numpy as np
import pytest
import torch
from PIL import Image

import dbsn
from dbsn import Denoiser
from dbsn.arrays import first_plane, planes_of, planewise
from dbsn.intensity import to_pixels

RNG = np.random.default_rng(0)
GRAY = (np.linspace(60, 190, 48)[None] + RNG.normal(0, 15, (40, 48))).clip(0, 255).astype(np.uint8)
COLOUR = np.dstack([GRAY, GRAY[::-1], GRAY[:, ::-1]])
HOLE = np.zeros(GRAY.shape, bool)
HOLE[10:20, 10:20] = True


@pytest.fixture(scope="module")
def gray() -> Denoiser:
    return Denoiser.load("gray", device="cpu")


@pytest.fixture(scope="module")
def photo() -> Denoiser:
    return Denoiser.load("photo", device="cpu")


def halved(image: object, **how: object) -> object:
    """What a function that halves intensities makes of an image."""
    return planewise(image, lambda plane: (_halves(plane),), **how)[0]


def _halves(plane: np.ndarray) -> np.ndarray:
    most = np.iinfo(plane.dtype).max if plane.dtype.kind in "iu" else 1
    return (plane / most / 2).astype(np.float32)


@pytest.mark.parametrize("kind", ["i1", "u1", "i2", "u2", ">u2", ">i4", "i4", "u4", "i8", "u8", "f2", ">f4", "f8", "g"])
def test_every_number_comes_back_in_its_own_unit_and_data_type(kind: str) -> None:
    image = (np.arange(48).reshape(6, 8) * 2).astype(kind)
    result = halved(image)
    assert result.dtype == np.dtype(kind)
    assert np.array_equal(result.astype(float), np.arange(48).reshape(6, 8))


def test_the_scale_of_integers_is_their_types_range_up_to_16_bits_and_counts_beyond() -> None:
    expected = {
        "int8": 100 / 127,
        "int16": 100 / 32767,
        "uint16": 100 / 65535,
        "int32": 100,
        "uint32": 100,
        "int64": 100,
    }
    for kind, intensity in expected.items():
        image = np.full((4, 4), 100, kind)
        seen = planewise(image, lambda plane: (to_pixels(plane),), to_floats=True)[0]
        assert seen[0, 0] == pytest.approx(intensity), kind


@pytest.mark.parametrize("kind", ["int16", "int32", "int64", "uint32", ">u2", "float64"])
def test_the_data_type_hardly_changes_the_result(gray: Denoiser, kind: str) -> None:
    difference = np.abs(gray.denoise(GRAY.astype(kind)) - gray.denoise(GRAY).astype(float))
    assert difference.mean() < 0.8  # counts are stretched to the usual range, where the network is not exactly the same
    assert difference.max() < 5


def test_views_and_read_only_arrays_are_read_as_copies_are(gray: Denoiser) -> None:
    view = GRAY[::-1, ::-1]
    fixed = view.copy()
    fixed.flags.writeable = False
    result = gray.denoise(fixed)
    assert np.array_equal(gray.denoise(view), result)
    assert result.flags.writeable


def test_lists_and_whatever_numpy_reads_become_arrays(gray: Denoiser) -> None:
    class Holder:
        def __array__(self, dtype: object = None, copy: object = None) -> np.ndarray:
            return GRAY

    assert np.array_equal(gray.denoise(Holder()), gray.denoise(GRAY))
    listed = gray.denoise(GRAY.tolist())
    assert isinstance(listed, np.ndarray)
    assert np.array_equal(listed, gray.denoise(GRAY.astype(np.int64)))


@pytest.mark.parametrize("kind", [torch.uint8, torch.int16, torch.float16, torch.bfloat16, torch.float64])
def test_a_tensor_comes_back_as_a_tensor(gray: Denoiser, kind: torch.dtype) -> None:
    tensor = torch.from_numpy(GRAY.astype(np.float32) if kind.is_floating_point else GRAY).to(kind)
    result = gray.denoise(tensor)
    assert (result.dtype, result.device, result.shape) == (kind, tensor.device, tensor.shape)
    difference = (result.double() - torch.from_numpy(gray.denoise(GRAY)).double()).abs()
    assert difference.mean() < 0.8
    assert difference.max() < 5
    assert gray.predict(tensor).dtype == torch.float32


def test_a_tensors_channels_are_first_as_in_pytorch_or_last(photo: Denoiser) -> None:
    expected, last = photo.denoise(COLOUR), torch.from_numpy(COLOUR)
    first = last.permute(2, 0, 1)
    assert np.array_equal(photo.denoise(last), expected)
    assert np.array_equal(photo.denoise(first).permute(1, 2, 0), expected)
    assert np.array_equal(photo.denoise(first[None].expand(2, -1, -1, -1))[1].permute(1, 2, 0), expected)
    assert np.array_equal(photo.denoise(torch.stack([last, last]))[1], expected)


def test_a_tensor_with_a_gradient_is_denoised_without_one(gray: Denoiser) -> None:
    result = gray.denoise(torch.from_numpy(GRAY / 255).requires_grad_())
    assert not result.requires_grad


@pytest.mark.parametrize("mode", ["L", "RGB", "F", "I", "I;16"])
def test_a_pil_image_comes_back_in_its_mode_with_its_info(mode: str) -> None:
    samples = {"RGB": COLOUR, "F": GRAY.astype(np.float32), "I": GRAY.astype(np.int32), "I;16": GRAY.astype(np.uint16)}
    image = Image.fromarray(samples.get(mode, GRAY))
    image.info["dpi"] = (300, 300)
    result = dbsn.denoise(image)
    assert (result.mode, result.size, result.info) == (mode, image.size, {"dpi": (300, 300)})
    assert np.array_equal(result, dbsn.denoise(np.asarray(image)))


def test_alpha_is_kept_and_palettes_become_colours(photo: Denoiser) -> None:
    clear = Image.fromarray(COLOUR)
    clear.putalpha(Image.fromarray(GRAY))
    result = photo.denoise(clear)
    assert result.mode == "RGBA"
    assert np.array_equal(np.asarray(result)[..., :3], photo.denoise(COLOUR))
    assert np.array_equal(np.asarray(result)[..., 3], GRAY)
    assert photo.denoise(Image.fromarray(COLOUR).quantize(64)).mode == "RGB"


def test_xarray_keeps_dimensions_coordinates_and_attributes(gray: Denoiser, photo: Denoiser) -> None:
    xarray = pytest.importorskip("xarray")
    stack = np.stack([GRAY, GRAY[::-1]])
    given = xarray.DataArray(stack, dims=("time", "y", "x"), coords={"time": [3, 5]}, attrs={"unit": "e"}, name="n")
    result = gray.denoise(given)
    assert isinstance(result, xarray.DataArray)
    assert (result.dims, result.name, result.attrs) == (given.dims, "n", {"unit": "e"})
    assert result.coords["time"].values.tolist() == [3, 5]
    assert np.array_equal(result[1], gray.denoise(stack[1]))
    turned = gray.predict(given.transpose("x", "time", "y"), return_std=True)[1]
    assert np.array_equal(turned[:, 1], gray.predict(stack[1], return_std=True)[1].T)
    assert np.array_equal(photo.denoise(xarray.DataArray(COLOUR, dims=("y", "x", "channel"))), photo.denoise(COLOUR))
    with pytest.raises(ValueError, match="DataArray first"):
        gray.denoise(xarray.Dataset({"n": given}))


def test_a_dask_array_is_denoised_plane_by_plane_when_it_is_computed(gray: Denoiser) -> None:
    dask = pytest.importorskip("dask.array")
    loaded: list[int] = []

    def plane(number: int) -> np.ndarray:
        loaded.append(number)
        return np.roll(GRAY, number, 1)[None]

    delayed = pytest.importorskip("dask").delayed(plane)
    apart = dask.concatenate([dask.from_delayed(delayed(n), (1, *GRAY.shape), GRAY.dtype) for n in (0, 7)])
    lazy = apart.rechunk((2, 16, 16))
    result = gray.denoise(lazy, axes="ZYX")
    mean, std = gray.predict(lazy, axes="ZYX", return_std=True)
    assert not loaded
    assert (result.chunks, result.dtype, std.dtype) == (lazy.chunks, np.uint8, np.float32)
    assert np.array_equal(gray.denoise(apart, axes="ZYX")[1].compute(), gray.denoise(np.roll(GRAY, 7, 1)))
    assert loaded == [7], "the other plane is neither read nor denoised"
    assert np.array_equal(result.compute()[1], gray.denoise(np.roll(GRAY, 7, 1)))
    for lazily, at_once in zip((mean, std), gray.predict(GRAY, return_std=True), strict=True):
        assert np.array_equal(lazily.compute()[0], at_once)
    assert np.array_equal(dbsn.denoise(lazy, axes="ZYX").compute()[0], dbsn.denoise(GRAY))
    with pytest.raises(ValueError, match="got bool"):
        gray.denoise(lazy > 3, axes="ZYX")


@pytest.mark.parametrize("under", [60000.0, np.nan, -1e30])
def test_masked_values_stay_and_influence_no_other(gray: Denoiser, under: float) -> None:
    spoiled = GRAY.astype(np.float32)
    spoiled[HOLE] = under
    masked = np.ma.masked_array(spoiled, HOLE, fill_value=-1)
    result = gray.denoise(masked)
    assert np.array_equal(result.mask, HOLE)
    assert result.fill_value == -1
    np.testing.assert_array_equal(result.data[HOLE], np.float32(under))
    other = GRAY.astype(np.float32)
    other[HOLE] = 7
    assert np.array_equal(result.data[~HOLE], gray.denoise(np.ma.masked_array(other, HOLE)).data[~HOLE])
    far = np.ones(GRAY.shape, bool)
    far[4:26, 4:26] = False
    assert np.sqrt(np.mean((result.data - gray.denoise(GRAY.astype(np.float32)))[far] ** 2)) < 2


def test_masks_of_integers_of_stacks_and_of_all_pixels(gray: Denoiser) -> None:
    stack = np.ma.masked_array(np.stack([GRAY, GRAY]), np.stack([~HOLE | True, HOLE]))
    result = dbsn.denoise(stack, axes="ZYX")
    assert result.dtype == np.uint8
    assert np.array_equal(result.mask, stack.mask)
    assert np.array_equal(result.data[stack.mask], stack.data[stack.mask])
    assert np.array_equal(result.data[1][~HOLE], gray.denoise(stack[1]).data[~HOLE])
    mean, std = gray.predict(stack, axes="ZYX", return_std=True)
    assert np.array_equal(std.mask, stack.mask)
    assert np.allclose(mean.data[0], GRAY / 255)


MISTAKES = {
    "got bool": GRAY > 128,
    "got complex128": GRAY + 1j,
    "ndarray of object": GRAY.astype(object),
    "ndarray of datetime64": GRAY.astype("datetime64[s]"),
    "cannot read this list": [[1, 2], [3]],
    "got NoneType": None,
    "got str": "photo.png",
    r"got \(\)": 3.0,
    r"got \(48,\)": GRAY[0],
    r"got \(5, 40, 48\).*axes=\"ZYX\"": np.stack([GRAY] * 5),
    r"got \(3, 40, 48\).*channel_axis=0": np.stack([GRAY] * 3),
    r"got \(2, 40, 48, 3\)": np.stack([COLOUR] * 2),
    "is empty": np.zeros((0, 9)),
    "got CMYK": Image.new("CMYK", (9, 9)),
    "got 1": Image.new("1", (9, 9)),
    "is sparse": torch.eye(9).to_sparse(),
    "got 4 channels": np.dstack([COLOUR, GRAY]),
}


@pytest.mark.parametrize("said", MISTAKES)
def test_what_is_no_image_is_refused_in_one_line(said: str) -> None:
    with pytest.raises(ValueError, match=said) as refused:
        dbsn.denoise(MISTAKES[said])
    assert "\n" not in str(refused.value)


def test_training_refuses_masked_values() -> None:
    assert planes_of(np.ma.masked_array(GRAY, False)).shape == (1, 40, 48, 1)
    with pytest.raises(ValueError, match="some values are masked"):
        planes_of(np.ma.masked_array(GRAY, HOLE))


def test_the_first_plane_is_the_first_that_is_not_masked_as_a_whole() -> None:
    stack = np.ma.masked_array(np.stack([GRAY, GRAY[::-1]]), np.stack([~HOLE | True, HOLE & False]))
    assert np.array_equal(first_plane(stack, "ZYX")[..., 0], GRAY[::-1])


def test_one_call_picks_the_model_as_the_command_does(gray: Denoiser, photo: Denoiser) -> None:
    assert np.array_equal(dbsn.denoise(GRAY), gray.denoise(GRAY))
    first = np.moveaxis(COLOUR, 2, 0)
    picked = dbsn.denoise(first, channel_axis=0)
    models = (photo, Denoiser.load("jpeg-photo", device="cpu"))
    assert any(np.array_equal(picked, model.denoise(first, channel_axis=0)) for model in models)
    assert np.array_equal(dbsn.denoise(GRAY, model="photo"), photo.denoise(GRAY))
    with pytest.raises(FileNotFoundError, match="grey: no such model"):
        dbsn.denoise(GRAY, model="grey")


def test_a_denoiser_says_what_it_is_and_can_be_pickled(gray: Denoiser) -> None:
    assert repr(gray) == "<Denoiser 'gray' for gray images: student and blind-spot model, on cpu>"
    assert np.array_equal(pickle.loads(pickle.dumps(gray)).denoise(GRAY), gray.denoise(GRAY))


def test_inspect_measures_each_plane_of_a_stack() -> None:
    generator = np.random.default_rng(0)
    stack = np.stack([generator.normal(120, level, (96, 128)) for level in (5, 20)]).round().astype(np.uint8)
    found = dbsn.inspect(stack, axes="ZYX")
    np.testing.assert_allclose([255 * level for level in found.levels], [5, 20], rtol=0.1)
    assert found.suits
    moved = dbsn.inspect(torch.from_numpy(stack[0]))
    assert 255 * moved.levels[0] == pytest.approx(5, rel=0.1)
    with pytest.raises(ValueError, match="at least 64 x 64"):
        dbsn.inspect(stack[0, :20, :20])
