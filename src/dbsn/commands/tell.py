"""`dbsn info`, `dbsn models` and `dbsn report`: what a model is, which there are, how a training went."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from dbsn import shipped
from dbsn.commands.common import Device, report_failures

if TYPE_CHECKING:
    from torch import nn

    from dbsn.config import ModelConfig, StudentConfig
    from dbsn.noisemodel import NoiseModel
    from dbsn.picture import Unit


@dataclass(frozen=True, kw_only=True)
class Info:
    """Say what a model file is."""

    model: Annotated[Path, tyro.conf.Positional]
    """Model file."""
    json: bool = False
    """Print one JSON object."""

    def run(self) -> int:
        """Describe; always 0."""
        from dbsn.checkpoint import load_model

        saved = load_model(shipped.model_file(self.model))
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


@dataclass(frozen=True, kw_only=True)
class Models:
    """List the models that come with dbsn: what for, trained on what, how good."""

    json: bool = False
    """Print one JSON object."""

    def run(self) -> int:
        """List; always 0."""
        every = {name: shipped.card(name) for name in shipped.names()}
        sizes = {name: shipped.path_of(name).stat().st_size for name in every}
        if self.json:
            files = {name: {"bytes": sizes[name], "sha256": shipped.sha256(name)} for name in every}
            print(json.dumps({name: asdict(card) | files[name] for name, card in every.items()}))
            return 0
        for name, card in every.items():
            print(f"{name}: {card.purpose}")
            facts = {"noise": card.noise, "trained on": card.data, "terms": card.terms, "made by": card.made_by}
            facts |= {"file": f"{sizes[name] / 1e6:.1f} MB, sha256 {shipped.sha256(name)}"}
            for what, said in (facts | card.measured).items():
                print(f"  {what:<12} {said}")
        return 0


@dataclass(frozen=True, kw_only=True)
class Report:
    """Tell a training in one HTML file: before and after, its noise, whether its promises are kept, its curves."""

    run_folder: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    """Folder of the training (`train -o`)."""
    output: Annotated[Path | None, tyro.conf.arg(aliases=["-o"])] = None
    """The file to write; by default RUN/report.html."""
    images: tuple[Path, ...] = ()
    """Noisy images to show; by default three that were learned from."""
    device: Device = "auto"
    """Where to compute."""

    def run(self) -> int:
        """Report; 0 if every image could be read."""
        from dbsn.report import write_report

        output = self.output or self.run_folder / "report.html"
        failures = write_report(self.run_folder, output, self.images, device=self.device)
        report_failures(failures)
        print(output)
        return 1 if failures else 0


def _unit(config: "ModelConfig | StudentConfig", noise: "NoiseModel") -> "Unit":
    """The numbers that the intensities it was trained on are known by, as far as the model knows."""
    import numpy as np

    from dbsn.picture import Unit

    of_16_bits = 0 < noise.recording.step < 1 / 256
    return Unit.of_samples(np.zeros(1, np.uint16) if of_16_bits else np.array([config.offset + config.scale]))


def _parameters(module: "nn.Module") -> int:
    return sum(parameter.numel() for parameter in module.parameters())
