"""`dbsn info`: what a model is."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from dbsn.store import builtin

if TYPE_CHECKING:
    from torch import nn

    from dbsn.config import ModelConfig, StudentConfig
    from dbsn.intensity import Unit
    from dbsn.noise.learned import NoiseModel


@dataclass(frozen=True, kw_only=True)
class Info:
    """Say what a model file is."""

    model: Annotated[Path, tyro.conf.Positional]
    """Model file."""
    json: bool = False
    """Print one JSON object."""

    def run(self) -> int:
        """Describe; always 0."""
        from dbsn.store.model_file import load_model

        saved = load_model(builtin.find_model(self.model))
        facts: dict[str, Any] = {}
        if saved.model:
            facts |= {"model": saved.model.config.to_dict(), "parameters": _parameters(saved.model)}
        if saved.student:
            facts |= {"student": saved.student.config.to_dict(), "student parameters": _parameters(saved.student)}
        if saved.noise:
            facts |= {"recording": asdict(saved.noise.recording), "noise of images": len(saved.noise.images)}
        if saved.unmade:
            facts["student"] = saved.unmade
        if self.json:
            print(json.dumps(facts | {"about": saved.about}))
            return 0
        config = (saved.model or saved.student or saved.teacher).config
        kind = "gray" if config.channels == 1 else f"{config.channels}-channel"
        parts = [name for name, part in (("blind-spot denoiser", saved.model), ("student", saved.student)) if part]
        print(f"{self.model}: {kind} {' and its '.join(parts)}")
        if saved.model:
            print(f"  blind-spot   {asdict(saved.model.config.network)}, {facts['parameters']:,} parameters")
        if saved.student:
            print(f"  student      {asdict(saved.student.config.network)}, {facts['student parameters']:,} parameters")
        if saved.unmade:
            print(f"  {saved.unmade}")
        if saved.model:
            gathered = f"; {saved.noise.told(_unit(config, saved.noise))}" if saved.noise else ""
            print(f"  noise        {saved.model.config.noise}{gathered}")
        if saved.model and saved.model.config.stride > 1:
            strides = (
                f"learned at {saved.model.config.stride} pixels, denoising at {saved.model.config.denoising_stride}"
            )
            print(f"  stride       {strides}")
        print(f"  intensities  {config.offset - config.scale:.4g} to {config.offset + config.scale:.4g}")
        for name, value in saved.about.items():
            print(f"  {name:<12} {value}")
        return 0


def _unit(config: "ModelConfig | StudentConfig", noise: "NoiseModel") -> "Unit":
    """The numbers that the intensities it was trained on are known by, as far as the model knows."""
    import numpy as np

    from dbsn.intensity import Unit

    of_16_bits = 0 < noise.recording.step < 1 / 256
    return Unit.of_samples(np.zeros(1, np.uint16) if of_16_bits else np.array([config.offset + config.scale]))


def _parameters(module: "nn.Module") -> int:
    return sum(parameter.numel() for parameter in module.parameters())
