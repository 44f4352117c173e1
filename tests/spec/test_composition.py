"""Documents that build on others: who wins, where settings land, what each origin says."""

from pathlib import Path

import pytest
from jobc.spec import FindingsError
from jobc.spec.compose import compose
from jobc.spec.groups import PRESETS, Library
from jobc.spec.model import Bf16, Cpu, Ddp, Gpu
from jobc.spec.overrides import parse_overrides
from jobc.spec.resolve import resolve
from jobc.spec.sources import Sources
from jobc.spec.tree import plain


@pytest.fixture
def composed(folder):
    """Resolves a job with the files that it builds on, given by name."""

    def run(files, *overrides, env=None, config_dirs=()):
        write(folder, files)
        words = {"env": env or {}, "cwd": folder, "count_gpus": lambda: 0, "config_dirs": config_dirs}
        return resolve(Path("job.yaml"), overrides, **words)

    return run


def write(folder, files):
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)


DGX = {"hardware/dgx.yaml": "kind: gpu\nper_node: 8\n", "hardware/duo.yaml": "kind: cpu\nper_node: 2\n"}


def test_group_file_is_a_choice(composed):
    """`hardware: dgx` takes hardware/dgx.yaml, and every value says so."""
    spec = composed({"job.yaml": "script: train.py\ndefaults:\n  - hardware: dgx\n", **DGX})
    assert spec.job.hardware == Gpu(per_node=8, threads_per_process=1)
    assert str(spec.origin("hardware.per_node")) == "hardware/dgx.yaml:2"
    assert spec.origin("hardware.per_node").explicit


@pytest.mark.parametrize(
    ("order", "seed"),
    [("[base]", 1), ("[base, _self_]", 1), ("[_self_, base]", 2)],
)
def test_self_decides_who_wins(composed, order, seed):
    """The last one wins; a document without `_self_` comes after what it builds on."""
    spec = composed(
        {
            "job.yaml": f"script: train.py\ndefaults: {order}\ntraining: {{seed: 1}}\n",
            "base.yaml": "training: {seed: 2, gradient_accumulation: 4}\n",
        }
    )
    assert (spec.job.training.seed, spec.job.training.gradient_accumulation) == (seed, 4)


def test_value_that_lost_is_known_with_its_file(composed):
    """`was 2 (base.yaml:1)`."""
    spec = composed(
        {
            "job.yaml": "script: train.py\ndefaults: [base]\ntraining: {seed: 1}\n",
            "base.yaml": "training: {seed: 2}\n",
        }
    )
    assert [(item.path, item.value, str(item.origin)) for item in spec.beaten] == [("training.seed", 2, "base.yaml:1")]


def test_another_kind_in_a_later_document_drops_the_keys(composed):
    """The rules of kinds are the same for documents and overrides."""
    spec = composed({"job.yaml": "script: train.py\ndefaults:\n  - hardware: dgx\nhardware: cpu\n", **DGX})
    assert spec.job.hardware == Cpu()
    assert "`hardware.per_node: 8` (hardware/dgx.yaml:2)" in spec.findings[0].cause


def test_override_replaces_the_choice_of_the_list(composed):
    """`hardware=duo` on the command line never reads the file that the list names."""
    files = {"job.yaml": "script: train.py\ndefaults:\n  - hardware: broken\n", **DGX, "hardware/broken.yaml": "["}
    assert composed(files, "hardware=duo").job.hardware == Cpu(per_node=2, threads_per_process=1)


@pytest.mark.parametrize(
    "words",
    [
        ("hardware=dgx", "hardware.per_node=4"),
        ("hardware.per_node=4", "hardware=dgx"),
        ("hardware=cpu", "hardware=dgx", "hardware.per_node=4"),
        ("hardware.per_node=4", "hardware.kind=gpu", "paradigm=ddp"),
    ],
)
def test_choices_come_before_nested_overrides(composed, words):
    """Whatever their order on the line."""
    spec = composed({"job.yaml": "script: train.py\n", **DGX}, *words)
    assert spec.job.hardware == Gpu(per_node=4, threads_per_process=1)


def test_group_file_is_preferred_to_a_kind_of_its_name(composed):
    """A file `precision/bf16.yaml` beside the job is what `precision=bf16` means there."""
    files = {"job.yaml": "script: train.py\n", "precision/bf16.yaml": "kind: fp16\ninitial_scale: 2.0\n"}
    assert composed(files, "precision=bf16").job.precision.initial_scale == 2.0
    assert composed({"job.yaml": "script: train.py\n"}, "precision.kind=bf16").job.precision == Bf16()


def test_shorthand_after_a_group_file_wins(composed):
    """The last choice of a block counts."""
    spec = composed({"job.yaml": "script: train.py\n", **DGX}, "hardware=dgx", "hardware=cpu")
    assert spec.job.hardware == Cpu()


@pytest.mark.parametrize("word", ["~hardware", "~hardware=dgx", "hardware=null"])
def test_choice_can_be_taken_away(composed, word):
    """The defaults list loses its entry."""
    spec = composed({"job.yaml": "script: train.py\ndefaults:\n  - hardware: dgx\n", **DGX}, word)
    assert spec.job.processes == 1


def test_null_and_optional_choose_nothing(composed):
    """`optional` forgives a file that is not there."""
    spec = composed(
        {"job.yaml": "script: train.py\ndefaults:\n  - hardware: null\n  - optional training: mine\n", **DGX},
        "hardware=duo",
    )
    assert spec.job.processes == 2


def test_several_choices_of_one_group(composed):
    """A list of names takes them one after the other."""
    files = {
        "job.yaml": "script: train.py\ndefaults:\n  - training: [a, b]\n",
        "training/a.yaml": "seed: 1\ngradient_accumulation: 2\n",
        "training/b.yaml": "seed: 3\n",
    }
    training = composed(files).job.training
    assert (training.seed, training.gradient_accumulation) == (3, 2)
    assert composed(files, "training=[b,a]").job.training.seed == 1


def test_experiment_overrides_choices_and_settings(composed):
    """The way experiments are written for Hydra."""
    files = {
        "job.yaml": "script: train.py\ndefaults:\n  - hardware: duo\n  - optional experiment: none\n",
        "experiment/big.yaml": (
            "# What the paper says.\n# @package _global_\ndefaults:\n  - override /hardware: dgx\n  - _self_\n"
            "name: big\ntraining: {seed: 7}\n"
        ),
        **DGX,
    }
    job = composed(files, "experiment=big").job
    assert (job.name, job.training.seed, job.processes) == ("big", 7, 8)


def test_name_can_speak_of_other_choices_and_of_the_environment(composed):
    """`${hardware}` is the choice of the group, `${oc.env:X}` a variable."""
    files = {
        "job.yaml": "script: train.py\ndefaults:\n  - training: for_${hardware}\n  - hardware: ${oc.env:BOX,duo}\n",
        "training/for_dgx.yaml": "seed: 8\n",
        "training/for_duo.yaml": "seed: 2\n",
        **DGX,
    }
    assert composed(files, "hardware=dgx").job.training.seed == 8
    files["job.yaml"] = "script: train.py\ndefaults:\n  - hardware: ${oc.env:BOX,duo}\n"
    assert composed(files, env={"BOX": "dgx"}).job.processes == 8


def test_folders_are_searched_in_order(composed, folder):
    """The job's folder, then each `--config-dir`, then the presets."""
    write(folder, {"one/hardware/h200x8.yaml": "kind: cpu\nper_node: 3\n", "two/hardware/extra.toml": 'kind = "cpu"\n'})
    files = {"job.yaml": "script: train.py\n"}
    dirs = ("one", "two")
    assert composed(files, "hardware=h200x8").job.processes == 8
    assert composed(files, "hardware=h200x8", config_dirs=dirs).job.processes == 3
    spec = composed(files, "hardware=extra", config_dirs=dirs)
    assert (spec.job.hardware, str(spec.origin("hardware.kind"))) == (Cpu(), "two/hardware/extra.toml:1")
    write(folder, {"hardware/h200x8.yaml": "kind: cpu\nper_node: 5\n"})
    assert composed(files, "hardware=h200x8", config_dirs=dirs).job.processes == 5


def test_config_dir_that_is_no_folder_is_a_finding(composed):
    """A slip in the folder's name would otherwise hide what lies in it."""
    with pytest.raises(FindingsError, match=r"J101.*`nowhere` is not a folder"):
        composed({"job.yaml": "script: train.py\n"}, config_dirs=("nowhere",))


def test_preset_says_that_it_is_one(composed):
    """`preset hardware/h200x8.yaml:3`."""
    spec = composed({"job.yaml": "script: train.py\n"}, "hardware=h200x8", "paradigm=ddp-static")
    assert str(spec.origin("hardware.per_node")) == "preset hardware/h200x8.yaml:3"
    assert spec.origin("hardware.per_node").layer == "preset"
    assert spec.job.paradigm == Ddp(static_graph=True, gradient_as_bucket_view=True)


@pytest.mark.parametrize(
    "preset", sorted(path.relative_to(PRESETS).with_suffix("").as_posix() for path in PRESETS.rglob("*.yaml"))
)
def test_preset_is_good_and_says_what_it_is(folder, preset):
    """Every shipped preset resolves, and its first line is a sentence."""
    (folder / "job.yaml").write_text("script: train.py\n")
    group, _, name = preset.partition("/")
    spec = resolve(Path("job.yaml"), (f"{group}={name}",), env={}, cwd=folder, count_gpus=lambda: 4)
    assert any(origin.layer in ("preset", "detected") for origin in spec.origins.values())
    first = (PRESETS / f"{preset}.yaml").read_text().splitlines()[0]
    assert first.startswith("# ")
    assert first.endswith(".")


def test_paths_of_all_documents_start_at_the_job(composed):
    """The composed document is one document, and it lies where the job lies."""
    files = {"job.yaml": "defaults: [sub/base@_global_]\n", "sub/base.yaml": "script: train.py\n"}
    assert composed(files).job.script == "train.py"


def test_broken_file_that_nobody_chooses_does_no_harm(composed):
    """Only what is chosen is read."""
    assert composed({"job.yaml": "script: train.py\n", "hardware/broken.yaml": "["}, "hardware=cpu").job.processes == 1


def test_many_documents_are_refused(composed):
    """Lists that multiply cannot keep jobc busy."""
    files = {"job.yaml": "script: train.py\ndefaults: [d0]\n", "d30.yaml": "name: a\n"}
    files |= {f"d{n}.yaml": f"defaults: [d{n + 1}, d{n + 1}@vars.x]\n" for n in range(30)}
    with pytest.raises(FindingsError, match=r"J111.*more than 1000 documents"):
        composed(files)


@pytest.mark.parametrize("name", ["pipe", "large"])
def test_odd_group_files_are_refused_by_name(composed, folder, name):
    """What holds for a job file holds for the files that it builds on."""
    import os

    (folder / "hardware").mkdir()
    os.mkfifo(folder / "hardware" / "pipe.yaml")
    (folder / "hardware" / "large.yaml").write_bytes(b"#" * (2 << 20))
    with pytest.raises(FindingsError, match=rf"J1(01|11).*`hardware/{name}.yaml`"):
        composed({"job.yaml": "script: train.py\n"}, f"hardware={name}")


def test_digest_does_not_depend_on_how_a_job_is_spread(composed):
    """One document, or the same settings in three files, is one plan."""
    from jobc.compiler.compile import compile_plan

    one = composed({"job.yaml": "name: a\nscript: train.py\nhardware: {kind: cpu, per_node: 2}\n"})
    digest = compile_plan(one).digest
    three = {"job.yaml": "defaults:\n  - base\n  - hardware: duo\nname: a\n", "base.yaml": "script: train.py\n", **DGX}
    assert compile_plan(composed(three)).digest == digest


# --- the same as Hydra ----------------------------------------------------------------------------------------------

TREES = {
    "self_last": ({"job.yaml": "defaults: [base, _self_]\nname: a\n", "base.yaml": "name: b\nscript: x.py\n"}, ()),
    "self_first": ({"job.yaml": "defaults: [_self_, base]\nname: a\n", "base.yaml": "name: b\nscript: x.py\n"}, ()),
    "groups": ({"job.yaml": "defaults:\n  - hardware: dgx\n  - _self_\nname: a\n", **DGX}, ()),
    "replaced": ({"job.yaml": "defaults:\n  - hardware: dgx\n  - _self_\nname: a\n", **DGX}, ("hardware=duo",)),
    "deleted": ({"job.yaml": "defaults:\n  - hardware: dgx\n  - _self_\nname: a\n", **DGX}, ("~hardware",)),
    "appended": ({"job.yaml": "name: a\n", **DGX}, ("+hardware=duo",)),
    "null": ({"job.yaml": "defaults:\n  - hardware: null\n  - _self_\nname: a\n", **DGX}, ()),
    "optional": ({"job.yaml": "defaults:\n  - optional hardware: nope\n  - _self_\nname: a\n", **DGX}, ()),
    "package": ({"job.yaml": "defaults:\n  - hardware@vars.box: dgx\n  - _self_\nname: a\n", **DGX}, ()),
    "package_replaced": (
        {"job.yaml": "defaults:\n  - hardware: dgx\n  - hardware@vars.box: dgx\n  - _self_\nname: a\n", **DGX},
        ("hardware@vars.box=duo",),
    ),
    "header": (
        {
            "job.yaml": "defaults:\n  - experiment: e\n  - _self_\nname: a\n",
            "experiment/e.yaml": "# @package _global_\nvars: {e: 1}\n",
        },
        (),
    ),
    "header_elsewhere": (
        {
            "job.yaml": "defaults:\n  - experiment: e\n  - _self_\nname: a\n",
            "experiment/e.yaml": "# @package vars.e\nseed: 1\n",
        },
        (),
    ),
    "override": (
        {
            "job.yaml": "defaults:\n  - hardware: dgx\n  - experiment: e\n  - _self_\nname: a\n",
            "experiment/e.yaml": "# @package _global_\ndefaults:\n  - override /hardware: duo\nvars: {e: 1}\n",
            **DGX,
        },
        (),
    ),
    "nested": (
        {
            "job.yaml": "defaults:\n  - vars: outer\n  - _self_\nname: a\n",
            "vars/outer.yaml": "defaults:\n  - deep: one\n  - _self_\n  - near\nx: 1\n",
            "vars/near.yaml": "x: 2\ny: 3\n",
            "vars/deep/one.yaml": "z: 4\n",
        },
        (),
    ),
    "nested_replaced": (
        {
            "job.yaml": "defaults:\n  - vars: outer\n  - _self_\nname: a\n",
            "vars/outer.yaml": "defaults:\n  - deep: one\nx: 1\n",
            "vars/deep/one.yaml": "z: 4\n",
            "vars/deep/two.yaml": "z: 5\n",
        },
        ("vars/deep=two",),
    ),
    "absolute": (
        {
            "job.yaml": "defaults:\n  - vars: outer\n  - _self_\nname: a\n",
            "vars/outer.yaml": "defaults:\n  - /hardware@_here_: duo\nx: 1\n",
            **DGX,
        },
        (),
    ),
    "list": (
        {
            "job.yaml": "defaults:\n  - vars: [a, b]\n  - _self_\nname: a\n",
            "vars/a.yaml": "x: 1\ny: [1, 2]\n",
            "vars/b.yaml": "x: 2\ny: [3]\n",
        },
        (),
    ),
    "interpolated": (
        {
            "job.yaml": "defaults:\n  - vars: ${hardware}\n  - hardware: duo\n  - _self_\nname: a\n",
            "vars/duo.yaml": "x: 1\n",
            "vars/dgx.yaml": "x: 2\n",
            **DGX,
        },
        ("hardware=dgx",),
    ),
    "document_in_folder": (
        {"job.yaml": "defaults: [vars/a, _self_]\nname: a\n", "vars/a.yaml": "x: 1\n"},
        (),
    ),
    "values": (
        {"job.yaml": "name: a\nvars: {a: 1, b: {c: 2}, d: [1, 2]}\nenv: {A: x}\n"},
        ("vars.a=5", "+vars.e={x: 1, y: [2, 'z w']}", "++vars.b.c=7", "~vars.d", "~env.A=x", "+vars.q='a,b'", "name=b"),
    ),
}


@pytest.fixture
def _own_resolvers():
    """Hydra registers resolvers of its own for the whole process."""
    from omegaconf import OmegaConf

    yield
    OmegaConf.clear_resolvers()


@pytest.mark.usefixtures("_own_resolvers")
@pytest.mark.parametrize("name", TREES)
def test_composes_as_hydra_does(folder, name):
    """Hydra itself, given the same files and overrides, makes the same document."""
    from hydra import compose as hydra_compose
    from hydra import initialize_config_dir
    from omegaconf import OmegaConf

    files, words = TREES[name]
    write(folder, files)
    with initialize_config_dir(str(folder), version_base="1.3"):
        expected = OmegaConf.to_container(hydra_compose("job", overrides=list(words)), resolve=False)
    sources = Sources()
    library = Library(folder / "job.yaml", "job.yaml", (), folder, sources)
    parsed, problems = parse_overrides(words, sources)

    def resolve_name(text, item, made, document):
        return text.replace("${hardware}", made["hardware"]), ()

    done = compose(library.job(), [word[0] for word in parsed], library, sources, resolve_name)
    assert (problems, done.findings) == ([], ())
    assert plain(done.root) == expected
