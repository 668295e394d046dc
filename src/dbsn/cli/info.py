"""`dbsn info`: what a model is."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import tyro

from dbsn.cli.help import Layout
from dbsn.cli.options import Json, Trust, escaped, find_model
from dbsn.config import Budget, DistillConfig, TrainConfig
from dbsn.store.builtin import CARD

if TYPE_CHECKING:
    from torch import nn

    from dbsn.config import ModelConfig, StudentConfig
    from dbsn.intensity import Unit
    from dbsn.noise.learned import NoiseModel
    from dbsn.store.model_file import ModelFile

_TITLES = {"train": "stage 1", "distill": "stage 2"}


@dataclass(frozen=True, kw_only=True)
class Info:
    """Describe a model file: networks, noise and training."""

    layout: ClassVar[Layout] = Layout(
        examples=("dbsn info runs/mine", "dbsn info photo --json"), usual=("--json", "--trust")
    )
    model: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="MODEL")]
    """Model file, run folder or built-in model."""
    json: Json = False
    trust: Trust = False

    def run(self) -> int:
        """Describe; always 0."""
        from dbsn.store.model_file import load_model

        saved = load_model(find_model(self.model, "MODEL"), trust=self.trust)
        if self.json:
            print(json.dumps(_facts(saved) | {"about": saved.about}))
            return 0
        config = (saved.model or saved.student or saved.teacher).config
        kind = "gray" if config.channels == 1 else f"{config.channels}-channel"
        parts = [name for name, part in (("blind-spot denoiser", saved.model), ("student", saved.student)) if part]
        print(escaped(f"{self.model}: {kind} {' and its '.join(parts)}"))
        for name, value in (*_networks(saved), *_story(saved.about)):
            print(escaped(f"  {name:<12} {value}"))
        return 0


def _facts(saved: "ModelFile") -> dict[str, Any]:
    facts: dict[str, Any] = {}
    if saved.model:
        facts |= {"model": saved.model.config.to_dict(), "parameters": _parameters(saved.model)}
    if saved.student:
        facts |= {"student": saved.student.config.to_dict(), "student parameters": _parameters(saved.student)}
    if saved.noise:
        facts |= {"recording": asdict(saved.noise.recording), "noise of images": len(saved.noise.images)}
    if saved.unmade:
        facts["student"] = saved.unmade
    return facts


def _networks(saved: "ModelFile") -> Iterator[tuple[str, str]]:
    """What the file holds, a line each."""
    config = (saved.model or saved.student or saved.teacher).config
    if saved.model:
        yield "blind-spot", f"{_network(saved.model.config)}, {_parameters(saved.model):,} parameters"
    if saved.student:
        yield "student", f"{_network(saved.student.config)}, {_parameters(saved.student):,} parameters"
    if saved.unmade:
        yield "student", saved.unmade
    if saved.model:
        gathered = f"; {saved.noise.describe(_unit(config, saved.noise))}" if saved.noise else ""
        yield "noise", f"{saved.model.config.noise}{gathered}"
    if saved.model and saved.model.config.stride > 1:
        yield (
            "stride",
            f"learned at {saved.model.config.stride} pixels, denoising at {saved.model.config.denoising_stride}",
        )
    yield "intensities", f"{config.offset - config.scale:.4g} to {config.offset + config.scale:.4g}"


def _network(config: "ModelConfig | StudentConfig") -> str:
    """A network's kind and sizes."""
    sizes = asdict(config.network)
    kind = sizes.pop("kind")
    return f"{kind} ({_settings(sizes)})"


def _story(about: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """How it was made, a line for each fact; of settings only those that are not the usual ones."""
    usual = {"train": asdict(TrainConfig()), "distill": asdict(DistillConfig())}
    for name, value in about.items():
        if name in usual and isinstance(value, Mapping):
            yield _TITLES[name], _training(value, usual[name])
        elif name == CARD and isinstance(value, Mapping):
            yield "built-in", f"{value.get('purpose', '')} (`dbsn models` says more)"
        elif isinstance(value, Mapping) and not any(isinstance(each, Mapping) for each in value.values()):
            yield f"{name}:", _settings(value)
        elif isinstance(value, Mapping):
            yield f"{name}:", str(value.get("file", ""))
            yield from ((f"  {inner}", text) for inner, text in _story(value) if inner != "file")
        else:
            yield name, _value(value)


def _training(settings: Mapping[str, Any], usual: Mapping[str, Any]) -> str:
    """The length of a training, and what was set for it."""
    steps, minutes = settings.get("steps"), settings.get("minutes")
    length = f"{steps} steps" if steps is not None else f"{_value(minutes)} minutes"
    budget = {each.name for each in fields(Budget)}
    others = {name: value for name, value in settings.items() if name not in budget and value != usual.get(name)}
    return f"{length}; {_settings(others)}" if others else f"{length}, usual settings"


def _settings(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{name.replace('_', ' ')} {_value(value)}" for name, value in values.items())


def _value(value: object) -> str:
    """A number, a list or a word, as a person reads it."""
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: "none"}[value]
    if isinstance(value, list | tuple):
        return "/".join(map(_value, value))
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _unit(config: "ModelConfig | StudentConfig", noise: "NoiseModel") -> "Unit":
    """The numbers that the intensities it was trained on are known by, as far as the model knows."""
    import numpy as np

    from dbsn.intensity import Unit

    of_16_bits = 0 < noise.recording.step < 1 / 256
    return Unit.of_samples(np.zeros(1, np.uint16) if of_16_bits else np.array([config.offset + config.scale]))


def _parameters(module: "nn.Module") -> int:
    return sum(parameter.numel() for parameter in module.parameters())
