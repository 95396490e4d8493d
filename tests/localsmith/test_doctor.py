"""What `localsmith doctor` says about the speed that choices rest on."""

from __future__ import annotations

import pytest
from localsmith.models.catalog.speed import Speed

from localsmith.doctor import speed_words

NOW = 1_800_000_000.0
DAY_S = 86_400.0


@pytest.mark.parametrize(
    ("reads_now", "kept", "says_again"),
    [
        (100.0, None, False),
        (100.0, Speed(90.0, 10.0, 0.0, NOW - DAY_S), False),
        (100.0, Speed(30.0, 10.0, 1.5, NOW - DAY_S), True),  # measured at a busy moment
        (20.0, Speed(100.0, 10.0, 0.0, NOW - DAY_S), True),  # busy now, or slower for good
        (100.0, Speed(90.0, 10.0, 0.0, NOW - 100 * DAY_S), True),
        (100.0, Speed(90.0, 10.0), False),  # an earlier version did not note when
    ],
)
def test_a_speed_far_off_or_old_is_named_with_the_command_to_measure_again(
    reads_now: float, kept: Speed | None, says_again: bool
) -> None:
    words = speed_words("small", reads_now, kept, NOW)
    assert f"reads {reads_now:.0f} tokens/s" in words
    assert ("localsmith models measure small" in words) == says_again
