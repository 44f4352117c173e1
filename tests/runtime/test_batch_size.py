"""The largest batch size that fits, found by one process."""

import pytest
from jobc import find_executable_batch_size


def needs(limit, tried, error=MemoryError):
    def train(batch_size, *args):
        tried.append(batch_size)
        if batch_size > limit:
            raise error
        return batch_size, args

    return train


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        RuntimeError("CUDA out of memory. Tried to allocate 2 GiB"),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate"),
    ],
)
def test_size_is_halved_until_it_fits(error):
    """Every kind of error that means memory; other arguments are passed on."""
    tried = []
    assert find_executable_batch_size(needs(10, tried, error))("x") == (8, ("x",))
    assert tried == [128, 64, 32, 16, 8]


@pytest.mark.parametrize("rule", [lambda size: size - 3, iter([6, 3, 1]).__next__])
def test_rule_of_the_caller_holds(rule):
    """As an argument of the decorator, with or without the present size."""
    tried = []

    @find_executable_batch_size(starting_batch_size=9, reduce_batch_size_fn=rule)
    def train(batch_size):
        return needs(3, tried)(batch_size)

    assert train() == (3, ())
    assert tried == [9, 6, 3]


def test_no_size_fits():
    """Below one sample there is nothing to try."""
    with pytest.raises(RuntimeError, match="no batch size from 4 down"):
        find_executable_batch_size(needs(0, []), starting_batch_size=4)()


def test_other_errors_are_not_about_memory():
    """They are raised at the first attempt."""
    tried = []
    with pytest.raises(ValueError, match="shape"):
        find_executable_batch_size(needs(1, tried, ValueError("shape")))()
    assert tried == [128]


def test_size_is_not_the_callers():
    """A batch size that is given twice is a mistake."""

    @find_executable_batch_size
    def train(batch_size):
        return batch_size

    for args, keywords in (((3,), {}), ((), {"batch_size": 3})):
        with pytest.raises(TypeError, match="leave it away"):
            train(*args, **keywords)
