"""The series of temperatures as text: what was written is read back, anything else is refused."""

import pytest

from pipeline.diffusion.series import SeriesPoint, read_series

SERIES = (
    SeriesPoint(600.0, 2.3e-8, (0.0, 2.3e-8), True, 0, "solid"),
    SeriesPoint(725.5, 1.2e-6, (8e-7, 1.9e-6), False, 40, "displaced"),
    SeriesPoint(900.0, 1.1e-4, (9e-5, 1.3e-4), False, 1207, "diffusing"),
)


def test_a_series_that_was_told_is_read_back() -> None:
    text = "; ".join(map(str, SERIES))
    assert text.startswith("600 K <2.3e-08, 0 hops; 725.5 K 1.2e-06 (8.0e-07 to 1.9e-06), 40 hops, framework displaced")
    assert tuple(read_series(text)) == SERIES


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "'' is no temperature"),
        ("600 K fast, 3 hops", "'600 K fast, 3 hops' is no temperature"),
        ("600 K <1.0e-08, 0 hops; 700 K", "'700 K' is no temperature"),
        ("600 K <1.0e-08, 0 hops, framework gone", "is no temperature"),
        ("600 K 1.0e-06 (2.0e-06 to 3.0e-06), 40 hops", "positive and in order"),
        ("600 K 1.0e-06 (0.0e+00 to 3.0e-06), 40 hops", "positive and in order"),
        ("0 K <1.0e-06, 0 hops", "positive and in order"),
    ],
)
def test_a_series_that_cannot_be_read_is_refused(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_series(text)
