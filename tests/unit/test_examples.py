"""The examples in the docstrings of the Python interface run and print what they say."""

import doctest

import pytest

from dbsn import Denoiser, api, denoiser

FINDER = doctest.DocTestFinder(exclude_empty=False)
EXAMPLES = [test for test in FINDER.find(denoiser) if "Denoiser" in test.name]
ONE_CALL = [test for test in FINDER.find(api) if test.name in ("dbsn.api.denoise", "dbsn.api.inspect")]


def test_everything_public_of_the_denoiser_has_an_example() -> None:
    public = {name for name in vars(Denoiser) if not name.startswith("_")}
    assert len(ONE_CALL) == 2
    assert all(test.examples for test in ONE_CALL)
    assert {test.name.rsplit(".", 1)[-1] for test in EXAMPLES if test.examples} == {"Denoiser", *public}


@pytest.mark.parametrize("example", [test for test in EXAMPLES + ONE_CALL if test.examples], ids=lambda test: test.name)
def test_the_example_prints_what_it_says(example: doctest.DocTest) -> None:
    report: list[str] = []
    failed, tried = doctest.DocTestRunner().run(example, out=report.append)
    assert tried
    assert not failed, "".join(report)
