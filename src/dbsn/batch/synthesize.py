"""Clean files with learned noise put on them, and themselves beside them (tests/e2e/test_stages.py)."""

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import replace

import numpy as np
import torch

from dbsn.batch.jobs import LOOKED_AT, Found, JobResult, each_job
from dbsn.batch.plan import Job
from dbsn.errors import ImageError
from dbsn.intensity import Unit, by_unit, from_pixels, intensity_range, placement, to_gray
from dbsn.io.formats import read_image, write_image
from dbsn.io.tiff import writing_float_tiff
from dbsn.noise.learned import NoiseModel
from dbsn.tensors import as_tensor, step_seed


def synthesize_files(noise: NoiseModel, jobs: Sequence[Job], *, float_tiff: bool, seed: int) -> Iterator[JobResult]:
    """Write each clean file with noise into its output, and itself beside it.

    Gray noise makes gray pairs of colour files. Noise of images in another unit, such as counts, is put on the files
    stretched to their range; what is written in the file's own format is brought back.

    Args:
        noise: The learned noise.
        jobs: What goes where.
        float_tiff: Write float32 TIFF, in the noisy images' range, instead of the input's format.
        seed: Of the noise; a file's realisation depends on it and the file's place in `jobs`.
    """
    seen, some = noise.model.config, list[np.ndarray]()
    for job in jobs[:: -(-len(jobs) // LOOKED_AT) or 1]:
        with suppress(ImageError, OSError):  # of which its own turn will tell
            some.append(read_image(job.source).samples)
    ranges = {unit: intensity_range(alike) for unit, alike in by_unit(some).items()}

    def synthesize(number: int, job: Job) -> Found:
        picture = read_image(job.source)
        pixels = to_gray(picture.pixels) if noise.model.config.channels == 1 else picture.pixels
        if pixels.shape[2] != noise.model.config.channels:
            raise ValueError("a gray image, but the noise was learned on colour images. Use colour images.")
        unit = Unit.of_samples(picture.samples)
        low, width = placement((seen.offset, seen.scale), ranges.get(unit) or intensity_range([pixels]))
        clean = low + width * pixels
        noisy_image = noise.sample(as_tensor(clean), torch.Generator().manual_seed(step_seed(seed, number, 0)))
        noisy = noisy_image[0].permute(1, 2, 0).numpy()
        assert job.beside is not None
        for file, image in ((job.output, noisy), (job.beside, clean)):
            file.parent.mkdir(parents=True, exist_ok=True)
            if float_tiff:
                with writing_float_tiff(file) as write:
                    write(image)
            else:
                samples = from_pixels((image - low) / width, picture.dtype)
                write_image(file, samples, replace(picture, samples=samples))
        level = float(np.sqrt(((noisy - clean) ** 2).mean()))
        return Found(level, Unit.of_samples(noisy)) if float_tiff else Found(level / width, unit)

    return each_job(jobs, synthesize)
