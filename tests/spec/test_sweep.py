"""Sweeps: which plans, in which order, and what is said when one of them is bad."""

from pathlib import Path

import pytest
from jobc.spec import FindingsError
from jobc.spec.resolve import resolve_sweep


@pytest.fixture
def swept(folder):
    """The variants of a document with overrides."""

    def run(*overrides, text="script: train.py\n", env=None):
        (folder / "job.yaml").write_text(text)
        return resolve_sweep(Path("job.yaml"), overrides, env=env or {}, cwd=folder, count_gpus=lambda: 0)

    return run


def words(variants):
    return [" ".join(variant.overrides) for variant in variants]


def test_plans_are_the_product_in_order(swept):
    """The last override changes fastest, as in Hydra."""
    variants = swept("precision=bf16,fp16", "training.seed=1,2", "name=a")
    assert words(variants) == [
        "precision=bf16 training.seed=1 name=a",
        "precision=bf16 training.seed=2 name=a",
        "precision=fp16 training.seed=1 name=a",
        "precision=fp16 training.seed=2 name=a",
    ]
    assert [variant.spec.job.training.seed for variant in variants] == [1, 2, 1, 2]


@pytest.mark.parametrize(
    ("word", "values"),
    [
        ("vars.a=choice(1,x,'a b',[1,2])", ["1", "x", "'a b'", "[1,2]"]),
        ("vars.a=range(1,4)", ["1", "2", "3"]),
        ("vars.a=range(0,1,0.5)", ["0.0", "0.5"]),
        ("vars.a=1e-4,007,no", ["1e-4", "007", "no"]),
        ("vars.a=sort(3,1,2)", ["1", "2", "3"]),
        ("vars.a={x: 1},{x: 2}", ["{x: 1}", "{x: 2}"]),
        ("+vars.a=${name},b", ["${name}", "b"]),
        ("hardware=glob([h*,c*],exclude=h1*)", ["cpux2", "h200x8"]),
    ],
)
def test_every_kind_of_sweep(swept, word, values):
    """Simple choices, functions, and files of a group, each as it would be written for one plan."""
    key = word.partition("=")[0]
    assert words(swept(word)) == [f"{key}={value}" for value in values]


def test_one_plan_of_a_sweep_is_the_plan_of_its_words(swept, resolved):
    """What a row shows can be copied."""
    text = "script: train.py\nargs: ['${vars.lr}']\n"
    for variant in swept("vars.lr=choice(1e-3,0.1)", "hardware=cpux2,cpu", text=text):
        assert resolved(text, *variant.overrides).job == variant.spec.job


def test_each_plan_has_its_own_findings(swept):
    """The good ones are planned, the bad ones point at their own value."""
    good, bad = swept("precision=bf16,bf61")
    assert (good.findings, bad.spec) == ((), None)
    (finding,) = bad.findings
    assert (finding.code, finding.place.excerpt, finding.place.column) == ("J105", "precision=bf16,bf61", 16)


def test_secret_does_not_pass_through_a_sweep(swept):
    """A value that reads a credential is refused in each plan."""
    variants = swept("vars.a=${oc.env:HF_TOKEN},x", env={"HF_TOKEN": "hf_verysecret"})
    assert [finding.code for finding in variants[0].findings] == ["J206"]
    assert "hf_verysecret" not in repr(variants)


@pytest.mark.parametrize(
    ("word", "says"),
    [
        ("vars.a=interval(0,1)", "an interval has no countable values"),
        ("vars.a=shuffle(1,2,3)", "plans have an order that does not change"),
        ("vars.a=range(1,1)", "the sweep has no values"),
        ("vars.a=range(1,10000000000)", "the sweep has more than 1000 plans"),
        ("vars.a=range(1,2,0)", "the values cannot be counted"),
        ("hardware=glob(zz*)", "no choice of `hardware` matches"),
        ("training.seed=glob(*)", "no choice of `training.seed` matches"),
        ("~vars.a=1,2", "`~` removes one setting"),
    ],
)
def test_sweep_that_cannot_be_counted_is_a_finding(swept, word, says):
    """Said once, before any plan."""
    with pytest.raises(FindingsError, match="J207") as caught:
        swept(word)
    assert says in str(caught.value)


def test_files_are_read_once(swept, monkeypatch, folder):
    """A sweep of many plans opens the job and each group file a single time."""
    (folder / "training").mkdir()
    (folder / "training" / "a.yaml").write_text("seed: 1\n")
    opened = []
    real = Path.open

    def watched(self, mode="r", *args, **named):
        opened.append((self.name, mode))
        return real(self, mode, *args, **named)

    monkeypatch.setattr(Path, "open", watched)
    assert len(swept("training=a,native", "vars.x=range(0,10)")) == 20
    read = sorted(name for name, mode in opened if name.endswith(".yaml") and "r" in mode)
    assert read == ["a.yaml", "job.yaml", "native.yaml"]
