"""Names of what is not there yet: each can be imported, and says what to do when it is used."""

import inspect

import jobc
import pytest
from jobc import Accelerator, FindingsError, GeneralTracker, LoggerType, ProfileKwargs
from jobc.runtime import later

NAMES = sorted(name for name in jobc.__all__ if getattr(getattr(jobc, name), "__module__", "") == later.__name__)
REFUSED = [name for name in NAMES if name != "LoggerType"]


@pytest.mark.parametrize("name", REFUSED)
def test_name_says_what_it_waits_for(name):
    """Made or called, whatever the arguments, it is a finding with its name and a next step."""
    with pytest.raises(FindingsError) as raised:
        getattr(jobc, name)(1, two=2)
    (found,) = raised.value.findings
    assert found.code == "J530"
    assert f"`{name}`" in found.cause
    assert found.place.source == __file__
    assert found.next_step
    assert inspect.getdoc(getattr(jobc, name)).startswith("Not there yet: ")


def test_classes_can_be_asked_for_and_inherited_from():
    """A script that only asks for a kind, or defines one of its own, goes on."""

    class Mine(GeneralTracker):
        name = "mine"

        def __init__(self):
            self.made = True

    assert not isinstance(object(), ProfileKwargs)
    with pytest.raises(FindingsError, match="J530"):
        Mine()


def test_trackers_are_refused_by_their_words():
    """`log_with` takes no word yet, neither as text nor as a member."""
    for word in (LoggerType.WANDB, "wandb"):
        with pytest.raises(FindingsError, match="trackers are not there yet"):
            Accelerator(log_with=word)


@pytest.mark.parametrize(
    "call",
    [
        lambda accelerator: accelerator.init_trackers("project", config={"lr": 1}),
        lambda accelerator: accelerator.get_tracker("wandb", unwrap=True),
        lambda accelerator: accelerator.log({"loss": 1.0}, step=3),
        lambda accelerator: accelerator.profile(),
    ],
)
def test_methods_say_what_they_wait_for(call):
    """Trackers and profiles are named as methods too; a script that asks which trackers there are finds none."""
    accelerator = Accelerator(cpu=True)
    with pytest.raises(FindingsError) as raised:
        call(accelerator)
    (found,) = raised.value.findings
    assert (found.code, found.place.source) == ("J530", __file__)
    assert found.next_step
    assert accelerator.trackers == []
    accelerator.end_training()
