"""Check the CPU kernels of one instruction set, which SOFTPOOL_CPU_CAPABILITY names.

What test_soft_pool.py and test_affine_relu.py say most about a kernel's values by, without the
seconds in which pytest collects them.
"""

from __future__ import annotations

import inspect
import itertools
from collections.abc import Callable, Iterable

import test_affine_relu
import test_soft_pool
from cases import DIMS, DTYPES, GRADIENTS
from hypothesis import seed

ALL = {
    "device": ["cpu"],
    "channels_last": [False, True],
    "dims": DIMS,
    "gradient": GRADIENTS,
    "dtype": DTYPES,
    "pool": [test_soft_pool.pool_by_operator],
}


def check(test: Callable, **values: Iterable) -> int:
    """Call a test with all combinations of its parameters; how many there are."""
    names = list(inspect.signature(test).parameters)
    combinations = list(itertools.product(*((ALL | values)[name] for name in names)))
    for combination in combinations:
        test(**dict(zip(names, combination, strict=True)))
    return len(combinations)


def main() -> None:
    soft_pool, infinities = test_soft_pool, [1.0, 0.0, test_soft_pool.INF]
    count = check(seed(0)(soft_pool.test_random_cases_equal_the_oracle))
    count += check(test_affine_relu.test_equals_the_composition)
    for window, expected in soft_pool.NOT_FINITE:
        test = soft_pool.test_values_that_are_not_finite
        count += check(test, window=[window], expected=[expected])
    count += check(soft_pool.test_minus_infinity_has_no_weight_and_no_gradient, beta=infinities)
    test = soft_pool.test_infinity_has_the_weight_one_among_finite_values
    count += check(test, beta=infinities)
    count += check(
        soft_pool.test_windows_wholly_in_the_padding_give_minus_infinity, ceil_mode=[True]
    )
    count += check(soft_pool.test_finite_input_stays_finite, padding=[0, 1])
    count += check(soft_pool.test_bits_do_not_depend_on_the_number_of_threads)
    print(f"{count} checks")


if __name__ == "__main__":
    main()
