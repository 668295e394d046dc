"""The limits on what a file may claim; docs/reference/formats.md states them. Nothing else belongs here."""

FREE_SAMPLES = 2**28
"""Bytes of samples that any image file may hold."""
MOST_EXPANSION = 256
"""Bytes of samples for each byte of a picture or TIFF, where it holds more than FREE_SAMPLES.

Noisy images pack to a third at best.
"""
MOST_SPARSE = 10_000
"""The same for a Zarr, which need not store empty chunks."""
MOST_PLANES = 1_000_000
"""Planes of a Zarr."""
LONGEST_SIDE = 1_000_000
"""Pixels of a Zarr's side."""
LARGEST_METADATA = 2**24
"""Bytes of a colour profile, XMP packet or text after decompression."""

LARGEST_HEADER = 2**23
"""Bytes of a model file's header."""
LARGEST_CONFIG = 2**25
"""Bytes of a run's config.json."""
MOST_CHANNELS = 4
"""Channels of an image."""
WIDEST = 4096
"""Channels of a layer."""
MOST_STAGES = 8
"""Resolutions of a network."""
MOST_BLOCKS = 64
"""Blocks, modules or layers at one resolution of a network."""
LARGEST_SPACING = 16
"""Grid spacing of a network in pixels."""
LARGEST_STRIDE = 64
"""Distance in pixels at which noise counts as independent."""
LARGEST_STEP = 2**26
"""Pixels of all patches of a training step."""
