"""What was set and did not arrive is named, with what can be done about just that."""

from __future__ import annotations

from typing import Any

import pytest

from stages._contract.determinism import LIMITS, check_observed

OBSERVED: dict[str, Any] = {
    "num_threads": 2,
    "environment": LIMITS["avx2"],
    "cpu_capability": "AVX2",
    "mkl_branch": "avx2",
}


def test_what_arrived_is_in_order() -> None:
    check_observed(OBSERVED, 2, "avx2")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_threads": 1}, r"num_threads must be 2 .*, not 1: .* lower num_threads"),
        ({"cpu_capability": "DEFAULT"}, r"cpu_capability must be AVX2 .*, not DEFAULT: .* native"),
        ({"mkl_branch": "off"}, r"mkl_branch must be avx2 or auto .*, not off: .* native"),
        ({"environment": {}}, r"environment must be .*, not {}: .* native"),
    ],
)
def test_remedy_is_that_of_the_setting(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message) as error:
        check_observed(OBSERVED | changes, 2, "avx2")
    assert ("cpu_isa native" in str(error.value)) == ("num_threads" not in changes)
