"""Arrays of any axes: every plane once, and results where they belong."""

import numpy as np
import pytest

from dbsn.io.axes import as_planes

CASES = [
    ((5, 6), {}, (1, 5, 6, 1), (0, 4, 5, 0), (4, 5)),
    ((5, 6, 3), {}, (1, 5, 6, 3), (0, 4, 5, 2), (4, 5, 2)),
    ((2, 5, 6), {"axes": "ZYX"}, (2, 5, 6, 1), (1, 4, 5, 0), (1, 4, 5)),
    ((2, 3, 5, 6), {"axes": "tsyx"}, (2, 5, 6, 3), (1, 4, 5, 2), (1, 2, 4, 5)),
    ((5, 2, 6, 7), {"axes": "YTXZ"}, (14, 5, 6, 1), (1 * 7 + 3, 4, 5, 0), (4, 1, 5, 3)),
    ((3, 5, 6), {"channel_axis": 0}, (1, 5, 6, 3), (0, 4, 5, 2), (2, 4, 5)),
    ((4, 2, 5, 6, 3), {"channel_axis": -1}, (8, 5, 6, 3), (2 * 2 + 1, 4, 5, 2), (2, 1, 4, 5, 2)),
]


@pytest.mark.parametrize(("shape", "said", "planes_shape", "there", "here"), CASES)
def test_planes_are_taken_apart_and_put_back(
    shape: tuple[int, ...],
    said: dict[str, str | int],
    planes_shape: tuple[int, ...],
    there: tuple[int, ...],
    here: tuple[int, ...],
) -> None:
    array = np.arange(np.prod(shape)).reshape(shape)
    planes, back = as_planes(array, **said)  # type: ignore[arg-type]
    assert planes.shape == planes_shape
    assert planes[there] == array[here]
    np.testing.assert_array_equal(back(planes + 1), array + 1)


@pytest.mark.parametrize(
    ("shape", "said", "told"),
    [
        ((2, 5, 6, 3), {}, "axes="),
        ((2, 5, 6), {"axes": "YX"}, "a letter for each of 3 axes"),
        ((2, 5, 6), {"axes": "ZZX"}, "a letter for each of 3 axes, with Y and X"),
        ((5, 6), {"channel_axis": 0}, "no such axis"),
        ((5, 6, 3), {"channel_axis": 3}, "no such axis"),
        ((5, 6, 3), {"channel_axis": 2, "axes": "YXS"}, "got both, expected one"),
    ],
)
def test_axes_that_are_not_the_arrays_are_refused(
    shape: tuple[int, ...], said: dict[str, str | int], told: str
) -> None:
    with pytest.raises(ValueError, match=told):
        as_planes(np.zeros(shape), **said)  # type: ignore[arg-type]
