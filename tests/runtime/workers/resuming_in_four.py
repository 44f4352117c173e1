"""The checks of `resuming` that say something else where there are more than two processes."""

from resuming import goes_on


def check_four_add_gradients_in_the_order_of_the_run_before():
    goes_on((1, 3, 8, 14))
    goes_on((2,), accumulation=1)


def check_four_shards_go_on():
    goes_on((3, 7), fsdp=True, tolerance=1e-6, loose=(7,))
