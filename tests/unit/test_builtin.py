"""Models that come with dbsn: each is whole, does what its card says, and is picked, listed and started from."""

import io
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import skimage.data
import torch
from PIL import Image
from scipy.ndimage import gaussian_filter

from dbsn import Denoiser
from dbsn.batch.model_choice import ModelPicker
from dbsn.config import (
    AUTO,
    BUILTIN,
    MODEL,
    NETWORKS,
    SCRATCH,
    STUDENTS,
    DistillConfig,
    ModelConfig,
    StudentConfig,
    TrainConfig,
    UNetConfig,
)
from dbsn.evaluation.evaluate import evaluate, synthetic_noise
from dbsn.evaluation.metrics import psnr
from dbsn.inference.options import InferenceOptions
from dbsn.intensity import OF_255, to_pixels
from dbsn.io.formats import read_image
from dbsn.models.blindspot import BlindSpotModel
from dbsn.models.student import Student
from dbsn.networks.measurement import MEASURES
from dbsn.noise.families import AWGN
from dbsn.noise.inspection import inspect_noise
from dbsn.store import builtin
from dbsn.store.model_file import ModelFile, save_model
from dbsn.training.distill import StageTwo
from dbsn.training.initial_weights import choose_initial
from dbsn.training.loop import TrainingContext
from dbsn.training.run_config import RunConfig
from dbsn.training.stages import StageOne, stages

PHOTOGRAPHS = {1: skimage.data.camera()[100:356, 100:356, None], 3: skimage.data.astronaut()[:256, 100:356]}
Command = Callable[..., Any]


def noisy(clean: np.ndarray, level: float) -> np.ndarray:
    """In 8 bits."""
    drawn = clean + np.random.default_rng(0).normal(0, level, clean.shape)
    return drawn.clip(0, 255).round().astype(np.uint8)


@pytest.mark.parametrize("name", [name for name in builtin.names() if builtin.card(name).independent])
def test_each_takes_noise_of_any_level_out_and_leaves_a_clean_image_alone(name: str) -> None:
    denoiser, clean = Denoiser.load(name, device="cpu"), PHOTOGRAPHS[builtin.card(name).channels]
    for level, least in ((10, 3.5), (25, 7), (50, 9.5)):
        image = noisy(clean, level)
        before, after = (psnr(to_pixels(each), to_pixels(clean)) for each in (image, denoiser.denoise(image)))
        assert after > before + least
    assert psnr(to_pixels(denoiser.denoise(clean)), to_pixels(clean)) > 45


def through_jpeg(image: np.ndarray, quality: int) -> np.ndarray:
    """An image of 8 bits as a camera writes it."""
    file = io.BytesIO()
    Image.fromarray(image.squeeze()).save(file, "JPEG", quality=quality)
    return np.asarray(Image.open(file)).reshape(image.shape)


@pytest.mark.parametrize("channels", [1, 3])
def test_noise_that_neighbours_share_in_a_jpeg_is_taken_out_by_the_model_that_knows_it(
    channels: int, tmp_path: Path, dbsn_command: Command
) -> None:
    clean = PHOTOGRAPHS[channels]
    shared = gaussian_filter(np.random.default_rng(0).normal(size=clean.shape), (0.8, 0.8, 0))
    spread = (clean + 8 * shared / shared.std()).round().clip(0, 255).astype(np.uint8)
    seen = through_jpeg(spread, 92)
    Image.fromarray(seen.squeeze()).save(tmp_path / "a.png")
    done = dbsn_command("denoise", tmp_path / "a.png", "-o", tmp_path / "out", "--save-std")
    assert done.returncode == 0, done.stderr
    assert "built-in model jpeg-photo, because this is a" in done.stderr
    result = read_image(tmp_path / "out" / "a.png").pixels
    assert result.shape == clean.shape
    gained = psnr(result, to_pixels(clean)) - psnr(to_pixels(seen), to_pixels(clean))
    assert gained > 2


@pytest.mark.parametrize("name", ["astronaut", "coffee", "camera"])
def test_texture_in_a_jpeg_without_noise_is_not_taken_for_noise(name: str) -> None:
    photograph = getattr(skimage.data, name)()
    seen = through_jpeg(photograph, 95).reshape(*photograph.shape[:2], -1)
    assert inspect_noise([seen]).levels[0] > 1.5 / 255, "or this test would not be one"
    denoiser, why = ModelPicker(None, device="cpu").pick(seen, OF_255)
    assert why is not None
    assert why.line.endswith("spread by JPEG, but almost none in flat areas")
    assert psnr(to_pixels(denoiser.denoise(seen)), to_pixels(seen)) > 45


@pytest.mark.parametrize("name", builtin.names())
@pytest.mark.parametrize(("low", "high"), [(0, 4095), (100.0, 3000.0), (0.0, 0.1), (0.6, 0.65)])
def test_images_in_counts_dark_or_of_little_contrast_are_denoised_as_photographs_are(
    name: str, low: float, high: float
) -> None:
    denoiser, clean = Denoiser.load(name, device="cpu"), PHOTOGRAPHS[builtin.card(name).channels]
    image = noisy(clean, 20) / np.float32(255)
    span = high - low
    other = (low + span * image).round().astype(np.uint16) if isinstance(low, int) else low + np.float32(span) * image
    result = (denoiser.denoise(other) - np.float32(low)) / span
    assert np.abs(result - denoiser.denoise(image)).mean() < 0.004
    assert denoiser.denoise(other).dtype == other.dtype


@pytest.mark.parametrize("name", builtin.names())
def test_cards_are_whole_and_the_weights_small(name: str) -> None:
    card = builtin.card(name)
    assert card.name == name
    assert all(getattr(card, field) for field in ("purpose", "noise", "data", "terms", "made_by"))
    assert sum(builtin.path_of(each).stat().st_size for each in builtin.names()) < 40e6
    models = (Path(__file__).parents[2] / "docs" / "reference" / "models.md").read_text()
    assert builtin.sha256(name) in models, "python training/pack.py makes models.md again"
    assert all(said in models for said in (card.purpose, card.noise, card.data, card.terms, *card.measured.values()))


def test_models_are_listed(dbsn_command: Command) -> None:
    listed = dbsn_command("models")
    for name in builtin.names():
        assert f"{name}: {builtin.card(name).purpose}" in listed.stdout
        assert builtin.sha256(name) in listed.stdout
    assert set(json.loads(dbsn_command("models", "--json").stdout)) == set(builtin.names())
    assert "photo" in dbsn_command("info", "photo").stdout


def test_without_a_model_the_one_for_the_image_is_picked_and_said_once(tmp_path: Path, dbsn_command: Command) -> None:
    clean = PHOTOGRAPHS[3]
    for name in ("a", "b"):
        Image.fromarray(noisy(clean, 25)).save(tmp_path / f"{name}.png")
    done = dbsn_command("denoise", tmp_path, "-o", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("built-in model photo, because this is a colour image with noise of 2") == 1
    assert "independent from pixel to pixel" in done.stderr
    (tmp_path / "again" / "a.png").mkdir(parents=True)  # in the way
    files = [tmp_path / f"{name}.png" for name in ("a", "b")]
    done = dbsn_command("denoise", *files, "-o", tmp_path / "again", "--overwrite")
    assert done.returncode == 1
    assert done.stderr.count("because this is a colour image") == 1, "also if the first file fails"
    result = read_image(tmp_path / "out" / "a.png").pixels
    assert psnr(result, to_pixels(clean)) > psnr(to_pixels(noisy(clean, 25)), to_pixels(clean)) + 7


def test_strength_is_how_much_is_taken_out_and_more_than_all_where_the_level_is_told(
    tmp_path: Path, dbsn_command: Command
) -> None:
    # noise that neighbours share a little is measured as less than it is: too much is left
    shared = gaussian_filter(np.random.default_rng(0).normal(size=PHOTOGRAPHS[3].shape), (0.45, 0.45, 0))
    spread = PHOTOGRAPHS[3] + 20 * shared / shared.std()
    Image.fromarray(spread.round().clip(0, 255).astype(np.uint8)).save(tmp_path / "a.png")
    removed, image = [], read_image(tmp_path / "a.png").pixels
    for strength in (0.5, 1, 1.5, 2):
        out = tmp_path / f"{strength}.png"
        done = dbsn_command("denoise", tmp_path / "a.png", "-o", out, "--strength", strength)
        assert done.returncode == 0, done.stderr
        removed.append(float((image - read_image(out).pixels).std()))
    assert removed == sorted(removed)
    assert removed[0] == pytest.approx(removed[1] / 2, rel=0.02)
    assert removed[3] > 1.04 * removed[1]
    refused = dbsn_command("denoise", tmp_path / "a.png", "-o", tmp_path / "x.png", "--strength", 4)
    assert refused.returncode == 2
    assert "--strength: got 4, expected a number from 0" in refused.stderr
    path = tmp_path / "unguided.safetensors"
    save_model(path, ModelFile(student=Student(StudentConfig(channels=3, network=STUDENTS["unet-tiny"]))))
    done = dbsn_command("denoise", tmp_path / "a.png", "-m", path, "-o", tmp_path / "x.png", "--strength", 1.5)
    assert done.returncode == 0
    assert "--strength 1.5 is used as 1, because this model has no noise-level input" in done.stderr


def test_noise_that_neighbours_share_is_said_and_given_to_the_model_that_knows_it(
    tmp_path: Path, dbsn_command: Command
) -> None:
    spread = gaussian_filter(np.random.default_rng(0).normal(0, 60, (256, 256, 3)), (1, 1, 0))
    Image.fromarray((PHOTOGRAPHS[3] * 0.5 + 60 + spread).clip(0, 255).astype(np.uint8)).save(tmp_path / "a.png")
    done = dbsn_command("denoise", tmp_path / "a.png", "-o", tmp_path / "out")
    assert "correlated over about" in done.stderr
    assert "model jpeg-photo" in done.stderr


def test_a_model_that_is_not_there_is_said_with_those_that_are(tmp_path: Path, dbsn_command: Command) -> None:
    Image.fromarray(PHOTOGRAPHS[3]).save(tmp_path / "a.png")
    done = dbsn_command("denoise", tmp_path / "a.png", "-m", "phot", "-o", tmp_path / "out")
    assert done.returncode == 2
    assert "--model phot: no such model file, run folder or built-in model. Did you mean photo?" in done.stderr
    assert f"Built-in models are {', '.join(builtin.names())}." in done.stderr
    with pytest.raises(FileNotFoundError, match="expected one of gray"):
        builtin.path_of("phot")


def like_builtin(folder: Path, channels: int, *, alone: bool = False) -> Path:
    """A model file as the built-in ones are, small."""
    config = ModelConfig(channels=channels)
    student = Student(StudentConfig(channels=channels, network=STUDENTS["unet-guided"]))
    path = folder / "like.safetensors"
    save_model(path, ModelFile(model=None if alone else BlindSpotModel(config), student=student))
    return path


def asked(channels: int = 1, **changes: Any) -> RunConfig:
    return replace(
        RunConfig(files=(), model=ModelConfig(channels=channels), train=TrainConfig(), student=AUTO), **changes
    )


def test_a_run_starts_from_a_model_of_its_kind(tmp_path: Path) -> None:
    path = str(like_builtin(tmp_path, 1))
    begun, said = choose_initial(asked(), path, distils=True)
    assert (begun.init_from, begun.student, begun.student_init_from) == (path, "unet-guided", path)
    assert said.startswith(f"initial weights: teacher from {path}, student from {path}; --from scratch")
    alone = tmp_path / "alone.safetensors"
    save_model(alone, ModelFile(model=BlindSpotModel(ModelConfig())))
    begun, said = choose_initial(asked(), str(alone), distils=True)
    assert (begun.init_from, begun.student_init_from) == (str(alone), "gray"), "a model without a student leaves ours"
    begun, said = choose_initial(asked(model=ModelConfig(network=NETWORKS["grid-tiny"])), BUILTIN, distils=False)
    assert begun.init_from is None
    assert said.startswith("initial weights: teacher from random weights (no built-in or named model")
    begun, _ = choose_initial(asked(), path, distils=False)
    assert (begun.init_from, begun.student_init_from) == (path, None)
    begun, said = choose_initial(asked(), SCRATCH, distils=True)
    assert (begun.init_from, begun.student, begun.student_init_from, said) == (None, "unet", None, "")
    begun, _ = choose_initial(asked(teacher="some.safetensors"), path, distils=True)
    assert (begun.init_from, begun.student_init_from) == (None, path)
    begun, _ = choose_initial(asked(student="dncnn"), path, distils=True)
    assert (begun.init_from, begun.student, begun.student_init_from) == (path, "dncnn", None)
    with pytest.raises(ValueError, match="--from"):
        choose_initial(asked(3), path, distils=False)


def test_a_student_alone_is_a_model_file_that_says_what_it_cannot(tmp_path: Path, dbsn_command: Command) -> None:
    path = like_builtin(tmp_path, 1, alone=True)
    denoiser = Denoiser.load(path, device="cpu")
    image = noisy(PHOTOGRAPHS[1], 20)
    assert denoiser.denoise(image).shape == image.shape
    with pytest.raises(ValueError, match="holds a student alone"):
        denoiser.denoise(image, method="posterior")
    with pytest.raises(ValueError, match=r"like\.safetensors: holds no blind-spot model"):
        choose_initial(asked(), str(path), distils=False)
    assert choose_initial(asked(), str(path), distils=True)[0].student_init_from == str(path)
    Image.fromarray(image.squeeze()).save(tmp_path / "a.png")
    refused = dbsn_command("denoise", tmp_path / "a.png", "-m", path, "-o", tmp_path / "o", "--method", "posterior")
    assert refused.returncode == 2
    assert "--method posterior" in refused.stderr
    assert str(path) in refused.stderr
    told = dbsn_command("info", path)
    assert told.returncode == 0, told.stderr
    assert "gray student" in told.stdout


def test_shipped_models_are_what_a_run_starts_from_where_they_fit() -> None:
    for channels in (1, 3):
        begun, _ = choose_initial(asked(channels), BUILTIN, distils=True)
        assert begun.student_init_from == builtin.name_for(channels)
    begun, _ = choose_initial(asked(2), BUILTIN, distils=True)
    assert (begun.init_from, begun.student_init_from) == (None, None)


def test_another_models_weights_give_the_same_estimates_in_the_units_of_other_images() -> None:
    torch.manual_seed(0)
    config = ModelConfig(channels=3)
    one, other = BlindSpotModel(config).eval(), BlindSpotModel(replace(config, stride=2)).eval()
    for parameter in one.parameters():
        parameter.data.add_(0.02 * torch.randn_like(parameter))
    seen = [torch.randn(1, 3 * MEASURES, 1, 1) for _ in range(4)]
    one.noise_estimator.expect(seen)
    other.noise_estimator.expect([0.3 * measurement + 1 for measurement in seen])
    units = other.noise_estimator.spread.clone()
    other.init_from(one)
    assert torch.equal(other.noise_estimator.spread, units)
    image = torch.rand(1, 3, 36, 36)
    with torch.inference_mode():
        expected, got = one(image), other(image)
    for name in ("mean", "mean_var", "noise_var", "total_var", "flat_below"):
        torch.testing.assert_close(getattr(got, name), getattr(expected, name), rtol=1e-4, atol=1e-5)
    with pytest.raises(ValueError, match="--from: the model does not fit"):
        BlindSpotModel(ModelConfig(channels=1)).init_from(one)


def test_for_noise_of_another_form_the_noise_estimate_begins_anew() -> None:
    torch.manual_seed(0)
    one, other = (BlindSpotModel(ModelConfig(channels=3, noise=noise)).eval() for noise in ("any", "awgn"))
    for parameter in one.parameters():
        parameter.data.add_(0.02 * torch.randn_like(parameter))
    image = torch.rand(1, 3, 36, 36)
    with torch.inference_mode():
        begun = other(image).noise_var
        other.init_from(one)
        expected, got = one(image), other(image)
    for name in ("mean", "mean_var", "total_var", "flat_below"):
        torch.testing.assert_close(getattr(got, name), getattr(expected, name), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(got.noise_var, begun)


def test_what_a_shipped_model_is_evaluated_at_is_what_it_gives(tmp_path: Path, dbsn_command: Command) -> None:
    dark = (PHOTOGRAPHS[3] / 255 * 0.1).astype(np.float32)
    pair = synthetic_noise(dark, AWGN(2 / 255), seed=0, index=0)
    denoiser = Denoiser.load("photo", device="cpu")
    assert denoiser.student is not None
    [score] = evaluate(denoiser.student, [pair], options=InferenceOptions(bf16=denoiser.bf16))
    assert score.psnr == pytest.approx(psnr(denoiser.predict(pair.noisy).clip(0, 1), dark), abs=1e-3)
    assert score.psnr > score.noisy_psnr + 7


@pytest.mark.parametrize("side", [512, 520, 528, 541])
def test_a_jpeg_of_any_size_is_known_for_one(side: int) -> None:
    tiled = np.tile(PHOTOGRAPHS[3], (3, 3, 1))[:side, :side]
    file = io.BytesIO()
    Image.fromarray(noisy(tiled, 10)).save(file, "JPEG", quality=90)
    _, picked = ModelPicker(None, device="cpu").pick(np.array(Image.open(file)), OF_255)
    why = picked.line if picked else ""
    assert "spread by JPEG" in why


@pytest.mark.parametrize("corner", [(0, 0), (3, 5), (6, 1)])
def test_any_crop_of_an_image_gets_the_same_model(corner: tuple[int, int]) -> None:
    coffee, (top, left) = skimage.data.coffee(), corner
    shared = gaussian_filter(np.random.default_rng(0).normal(size=coffee.shape), (1.6, 1.6, 0))
    spread = (coffee + 3.5 * shared / shared.std()).round().clip(0, 255).astype(np.uint8)
    picker = ModelPicker(None, device="cpu")
    for name, image in (("photo", noisy(coffee, 20)), ("jpeg-photo", through_jpeg(spread, 75))):
        for side in (160, 200, 350):
            crop = image[50 + top :, 100 + left :][:side, :side]
            _, why = picker.pick(crop, OF_255)
            assert why is not None
            assert why.model == name
            assert inspect_noise([crop]).suits == (name == "photo")


def test_independent_noise_in_a_jpeg_goes_to_the_model_that_takes_it_out() -> None:
    clean = skimage.data.astronaut()[:256, 100:356]
    picker, names = ModelPicker(None, device="cpu"), {}
    for level, quality in ((15, 90), (15, 80)):
        seen = through_jpeg(noisy(clean, level), quality)
        denoiser, why = picker.pick(seen, OF_255)
        assert why is not None
        names[quality] = why.model
        for name in ("photo", "jpeg-photo"):
            other = Denoiser.load(name, device="cpu").denoise(seen)
            chosen = psnr(to_pixels(denoiser.denoise(seen)), to_pixels(clean))
            assert chosen > psnr(to_pixels(other), to_pixels(clean)) - 0.1
    assert names == {90: "photo", 80: "jpeg-photo"}


def test_a_coarse_jpeg_without_noise_is_improved_and_texture_is_kept() -> None:
    picker = ModelPicker(None, device="cpu")
    coffee = skimage.data.coffee()[:256, 100:356]
    seen = through_jpeg(coffee, 60)
    denoiser, _ = picker.pick(seen, OF_255)
    before, after = (psnr(to_pixels(each), to_pixels(coffee)) for each in (seen, denoiser.denoise(seen)))
    assert after > before + 0.3
    for name in ("gravel", "brick"):
        texture = getattr(skimage.data, name)()[:256, :256, None]
        denoiser, _ = picker.pick(texture, OF_255)
        assert psnr(to_pixels(denoiser.denoise(texture)), to_pixels(texture)) > 45


def test_noise_among_clipped_pixels_is_not_said_to_be_independent() -> None:
    clean = np.kron(np.random.default_rng(0).choice([0.0, 128, 255], (40, 40)), np.ones((6, 6)))[..., None]
    shared = gaussian_filter(np.random.default_rng(1).normal(size=(240, 240, 3)), (1.2, 1.2, 0))
    seen = (np.repeat(clean, 3, 2) + 12 * shared / shared.std()).round().clip(0, 255).astype(np.uint8)
    with pytest.raises(ValueError, match="black or white nearly everywhere"):
        inspect_noise([seen])
    _, why = ModelPicker(None, device="cpu").pick(seen, OF_255)
    assert why is not None
    assert why.model == "jpeg-photo"


def test_the_plane_of_a_mosaic_has_independent_noise_whatever_its_texture_looks_like() -> None:
    shared = gaussian_filter(np.random.default_rng(0).normal(size=(256, 256, 1)), (1, 1, 0))
    plane = (PHOTOGRAPHS[1] + 15 * shared / shared.std()).clip(0, 255).astype(np.uint8)
    names = {}
    for is_mosaic in (False, True):
        _, why = ModelPicker(None, device="cpu").pick(plane, OF_255, is_mosaic=is_mosaic)
        assert why is not None
        names[is_mosaic] = why.model
    assert names == {False: "jpeg-photo", True: "gray"}


def test_what_a_model_cannot_do_is_told_when_it_is_picked_and_others_go_on(tmp_path: Path) -> None:
    def check(denoiser: Denoiser, path: Path) -> None:
        if path.stem == "photo":
            raise ValueError(f"{path}: not this one")

    choice = ModelPicker(None, device="cpu", check=check)
    with pytest.raises(ValueError, match="not this one"):
        choice.pick(noisy(PHOTOGRAPHS[3], 20), OF_255)
    denoiser, why = choice.pick(noisy(PHOTOGRAPHS[1], 20), OF_255)
    assert denoiser.channels == 1
    assert why is not None
    assert why.line.startswith("built-in model gray")


def test_a_gray_image_for_a_model_of_colours_is_said() -> None:
    choice = ModelPicker(Path("photo"), device="cpu")
    whys = {channels: choice.pick(noisy(PHOTOGRAPHS[channels], 20), OF_255)[1] for channels in (1, 3)}
    assert whys[3] is None
    assert whys[1] is not None
    assert "gray image, copied to three channels" in whys[1].line


def test_a_runs_folder_means_its_model(tmp_path: Path, dbsn_command: Command) -> None:
    (tmp_path / "run").mkdir()
    like_builtin(tmp_path, 1).rename(tmp_path / "run" / MODEL)
    assert builtin.find_model(tmp_path / "run") == tmp_path / "run" / MODEL
    assert dbsn_command("info", tmp_path / "run").returncode == 0


def test_a_folder_of_a_models_name_is_no_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "photo").mkdir()
    monkeypatch.chdir(tmp_path)
    assert builtin.find_model(Path("photo")) == builtin.path_of("photo")
    assert builtin.find_model(tmp_path / "photo") == tmp_path / "photo"


def test_a_student_that_is_named_brings_its_network(tmp_path: Path) -> None:
    path = tmp_path / "s.safetensors"
    save_model(path, ModelFile(student=Student(StudentConfig(network=STUDENTS["dncnn"]))))
    for where in (BUILTIN, SCRATCH):
        begun, _ = choose_initial(asked(student_init_from=str(path)), where, distils=True)
        assert (begun.student, begun.student_init_from) == ("dncnn", str(path))
    save_model(path, ModelFile(student=Student(StudentConfig(network=UNetConfig(widths=(8,), blocks=(1,))))))
    with pytest.raises(ValueError, match=r"--student\.start .*Name the network"):
        choose_initial(asked(student_init_from=str(path)), SCRATCH, distils=True)


def test_noise_that_neighbours_share_gets_no_student_that_is_told_what_cannot_be_measured(tmp_path: Path) -> None:
    path = str(like_builtin(tmp_path, 3))
    correlated = replace(asked(3), model=ModelConfig(channels=3).with_stride(5))
    for where, origin in ((BUILTIN, builtin.name_for(3, independent=False)), (path, path)):
        begun, _ = choose_initial(correlated, where, distils=True)
        assert (begun.student, begun.student_init_from) == ("unet", origin), "it begins with its weights all the same"
        assert begun.init_from == ("photo" if where == BUILTIN else path)
    images = [noisy(PHOTOGRAPHS[3], 20)]
    second = StageTwo(images=images, network=STUDENTS["unet-guided"], config=DistillConfig())
    with pytest.raises(ValueError, match="cannot be measured"):
        next(
            stages(
                images, StageOne(model=correlated.model, config=TrainConfig()), second, TrainingContext(run=tmp_path)
            )
        )
    alone = DistillConfig(uncertainty_alone=True)
    guided = Student(StudentConfig(channels=3, network=STUDENTS["unet-guided"]))
    begun, _ = choose_initial(replace(correlated, distill=alone, student_init_from=path), SCRATCH, distils=True)
    assert begun.student == "unet-guided", "the student is to stay what it is"
    for network, told in (("unet-guided", "cannot be measured"), ("unet", "Omit --student.network")):
        second = StageTwo(images=images, network=STUDENTS[network], config=alone, init_from=guided)
        with pytest.raises(ValueError, match=told):
            next(
                stages(
                    images,
                    StageOne(model=correlated.model, config=TrainConfig()),
                    second,
                    TrainingContext(run=tmp_path),
                )
            )


def test_noise_of_any_kind_is_not_put_on_images_in_counts(tmp_path: Path) -> None:
    counts = [noisy(PHOTOGRAPHS[1], 20).astype(np.float32) * 16]
    second = StageTwo(images=counts, network=STUDENTS["unet"], config=DistillConfig(noise="any:60"))
    with pytest.raises(ValueError, match=r"--student\.noise any:60"):
        next(stages(counts, StageOne(model=ModelConfig(), config=TrainConfig()), second, TrainingContext(run=tmp_path)))


def test_the_level_that_is_said_is_the_measured_one_whatever_the_strength_and_tile() -> None:
    denoiser, image = Denoiser.load("photo", device="cpu"), noisy(np.tile(PHOTOGRAPHS[3], (2, 1, 1)), 20)
    into = np.empty(image.shape, np.float32)
    levels = [
        denoiser.denoise_into(into, image, options=InferenceOptions(tile=tile, level_factor=factor))
        for tile, factor in ((0, 1.0), (0, 2.0), (96, 1.0))
    ]
    assert levels == pytest.approx([levels[0]] * 3, rel=1e-4)
    assert levels[0] == pytest.approx(20 / 255, rel=0.1)
