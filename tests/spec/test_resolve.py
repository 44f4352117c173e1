"""What a document means: defaults, shorthands, overrides, interpolation, derived values, and where each came from."""

import json

import msgspec
import pytest
from jobc.spec import FindingsError, decode_document
from jobc.spec.model import AutoHardware, Bf16, Cpu, Ddp, FullPrecision, Gpu, NoParadigm


def test_document_of_one_line_has_every_value(resolved):
    """What is not written is a default or derived."""
    job = resolved("script: train.py\n").job
    assert (job.name, job.launcher, job.processes) == ("train", "python", 1)
    assert isinstance(job.hardware, AutoHardware)
    assert isinstance(job.precision, FullPrecision)
    assert isinstance(job.paradigm, NoParadigm)


@pytest.mark.parametrize(
    "text",
    [
        "script: train.py\nhardware: cpu\nprecision: bf16\nparadigm: ddp\nnodes: 1\ntarget: local\n",
        (
            "script: train.py\nhardware: {kind: cpu}\nprecision: {kind: bf16}\nparadigm: {kind: ddp}\n"
            "nodes: {count: 1}\ntarget: {kind: local}\n"
        ),
    ],
)
def test_shorthand_and_long_form_mean_the_same(resolved, text):
    """One word is short for the block that it names."""
    job = resolved(text).job
    assert (job.hardware, job.precision, job.paradigm) == (Cpu(), Bf16(), Ddp())


def test_toml_means_the_same_as_yaml(resolved):
    """The two formats differ in spelling alone."""
    yaml = "script: train.py\nargs: [--lr, 1e-4]\nhardware: {kind: cpu, per_node: 2}\ntraining: {seed: 7}\n"
    toml = 'script = "train.py"\nargs = ["--lr", 1e-4]\nhardware = {kind = "cpu", per_node = 2}\n[training]\nseed = 7\n'
    assert resolved(yaml).job == resolved(toml, name="job.toml").job


@pytest.mark.parametrize("written", ["no", '"no"', "{kind: no}"])
def test_precision_no_needs_no_quotes(resolved, written):
    """YAML 1.1 reads `no` as false; a job reads the word."""
    assert isinstance(resolved(f"script: train.py\nprecision: {written}\n").job.precision, FullPrecision)


def test_words_keep_their_text(resolved):
    """Arguments and variables reach the process as they were written."""
    text = "script: train.py\nargs: [1e-4, no, 007, 0x1f, True, null, 1_000, '']\nenv: {A: 1.50, B: yes}\n"
    job = resolved(text, "env.C=1e-3", "env.D=007").job
    assert job.args == ("1e-4", "no", "007", "0x1f", "True", "null", "1_000", "")
    assert dict(job.env) == {"A": "1.50", "B": "yes", "C": "1e-3", "D": "007"}


def test_several_processes_derive_launcher_paradigm_and_threads(resolved):
    """Above one process torchrun starts them, ddp trains them, and each has one CPU thread."""
    spec = resolved("script: train.py\nhardware: {kind: cpu, per_node: 2}\n")
    assert (spec.job.launcher, spec.job.paradigm, spec.job.hardware.threads_per_process) == ("torchrun", Ddp(), 1)
    assert str(spec.origin("launcher")) == "derived from the number of processes"
    assert not spec.origin("launcher").explicit


def test_all_devices_are_counted(resolved):
    """`per_node: all` becomes the number of GPUs here, and its origin says so."""
    spec = resolved("script: train.py\nhardware: {kind: gpu, per_node: all}\n", gpus=4)
    assert (spec.job.processes, str(spec.origin("hardware.per_node"))) == (4, "detected on this machine")


@pytest.mark.parametrize(
    "overrides",
    [
        ("paradigm=ddp", "paradigm.static_graph=true"),
        ("paradigm.static_graph=true", "paradigm=ddp"),
        ("paradigm={kind: ddp, static_graph: true}",),
        ("paradigm.kind=ddp", "++paradigm.static_graph=true"),
    ],
)
def test_choice_and_nested_override_meet_in_any_order(resolved, overrides):
    """A choice is applied before what is set inside of it."""
    assert resolved("script: train.py\nparadigm: none\n", *overrides).job.paradigm == Ddp(static_graph=True)


def test_same_kind_keeps_the_other_keys(resolved):
    """`hardware=cpu` on a CPU job changes nothing."""
    text = "script: train.py\nhardware: {kind: cpu, per_node: 2}\n"
    assert resolved(text, "hardware=cpu").job.hardware == Cpu(per_node=2, threads_per_process=1)


def test_another_kind_drops_the_keys_and_says_so(resolved):
    """What belonged to the kind that was left no longer applies."""
    spec = resolved("script: train.py\nhardware: {kind: cpu, per_node: 2}\n", "hardware=gpu")
    assert spec.job.hardware == Gpu()
    assert [finding.code for finding in spec.findings] == ["J309"]
    assert "`hardware.per_node: 2` (job.yaml:2)" in spec.findings[0].cause


def test_count_of_nodes_keeps_the_rendezvous(resolved):
    """`nodes=1` is `nodes.count=1`."""
    nodes = resolved("script: train.py\nnodes: {rendezvous: {port: 4000}}\n", "nodes=1").job.nodes
    assert (nodes.count, nodes.rendezvous.port) == (1, 4000)


def test_override_remembers_what_it_beat(resolved):
    """The value that lost is known with its line."""
    spec = resolved("script: train.py\nprecision: fp16\n", "precision=bf16")
    assert str(spec.origin("precision.kind")) == "override 1"
    assert [(item.path, item.value, str(item.origin)) for item in spec.beaten] == [
        ("precision.kind", "fp16", "job.yaml:2")
    ]


def test_override_removes_a_value(resolved):
    """`~key` takes the document's value back."""
    spec = resolved("script: train.py\ntraining: {seed: 3}\nenv: {A: x}\n", "~training.seed", "~env")
    assert (spec.job.training.seed, dict(spec.job.env)) == (None, {})


def test_interpolation_reads_values_variables_and_defaults(resolved):
    """`${path}` reads the document with its defaults, `${oc.env:X}` the environment."""
    text = (
        'script: train.py\nvars: {n: 2, word: ddp}\nhardware: {kind: cpu, per_node: "${vars.n}"}\n'
        'paradigm: "${vars.word}"\ntraining: {seed: "${oc.env:SEED}"}\n'
        'args: ["${oc.env:DATA,/data}", "${hardware.per_node}", "${training.gradient_accumulation}"]\n'
    )
    spec = resolved(text, env={"SEED": "41"})
    assert (spec.job.processes, spec.job.training.seed) == (2, 41)
    assert spec.job.args == ("/data", "2", "1")
    assert str(spec.origin("training.seed")) == "environment SEED"
    assert spec.origin("training.seed").explicit


def test_derived_values_can_be_referred_to(resolved):
    """They are derived first, from what does not refer to them."""
    text = (
        'script: train.py\nvars: {n: 2, label: "${name}-${paradigm.kind}", again: "${.label}"}\n'
        'hardware: {kind: cpu, per_node: "${vars.n}"}\nargs: ["${vars.again}", "${launcher}"]\n'
    )
    assert resolved(text).job.args == ("train-ddp", "torchrun")
    text = "script: train.py\nhardware: {kind: gpu, per_node: all}\nargs: ['${hardware.per_node}']\n"
    assert resolved(text, gpus=4).job.args == ("4",)


def test_resolvers_of_omegaconf_work(resolved):
    """Relative references, `oc.select`, `oc.decode`, `oc.create` and the dictionary resolvers."""
    text = (
        'script: train.py\nvars:\n  a: 1\n  b: "${oc.select:vars.nope,7}"\n  c: "${oc.decode:${oc.env:LIST}}"\n'
        '  d: {e: 3, f: "${.e}", g: "${..a}"}\n  k: "${oc.dict.keys:vars.d}"\n  m: "${oc.create:{x: 1}}"\n'
    )
    found = resolved(text, env={"LIST": "[1,2]"}).job.vars
    assert (found["b"], found["c"], found["d"], found["k"], found["m"]) == (
        7,
        (1, 2),
        {"e": 3, "f": 3, "g": 1},
        ("e", "f", "g"),
        {"x": 1},
    )


def test_overrides_take_nested_values_and_interpolations(resolved):
    """Lists, mappings, quotes and references, as in Hydra's grammar."""
    words = (
        "vars.x={a: 1, b: [x, 'y z', {c: 2}]}",
        "+vars.n=3",
        "training.seed=${vars.n}",
        "args=[${vars.n}, 'a,b', \"it's\"]",
        "name=run-${training.seed}",
        "hardware=null",
    )
    job = resolved("script: train.py\nhardware: {kind: cpu, per_node: 2}\n", *words).job
    assert job.vars["x"] == {"a": 1, "b": ("x", "y z", {"c": 2})}
    assert (job.training.seed, job.args, job.name, job.processes) == (3, ("3", "a,b", "it's"), "run-3", 1)


def test_escaped_interpolation_is_text(resolved):
    r"""`\${x}` reaches the script as `${x}`."""
    assert resolved("script: train.py\nargs: ['\\${HOME}', '$HOME', '$(x)']\n").job.args == ("${HOME}", "$HOME", "$(x)")


def test_every_origin_points_at_its_line(resolved):
    """The line of an origin holds the value that it is the origin of."""
    text = (
        "script: train.py\nname: digits\nhardware:\n  kind: cpu\n  per_node: 2\nargs:\n  - --lr\n  - 0.5\n"
        "env:\n  A: x y\ntraining: {seed: 3}\n"
    )
    spec = resolved(text)
    lines = text.splitlines()
    for path, origin in spec.origins.items():
        if origin.layer == "file":
            value = msgspec.to_builtins(spec.job)
            for part in path.replace("[", ".").replace("]", "").split("."):
                value = value[int(part)] if isinstance(value, list | tuple) else value[part]
            found = lines[origin.line - 1][origin.column - 1 : origin.column - 1 + origin.length]
            assert found == str(value), path


def test_paths_on_the_command_line_start_in_the_current_folder(folder, monkeypatch):
    """A path in the file starts at the file, one in an override where the person is."""
    from pathlib import Path

    from jobc.spec.resolve import resolve

    (folder / "jobs").mkdir()
    (folder / "jobs" / "job.yaml").write_text("script: ../train.py\n")
    found = [
        resolve(Path("jobs/job.yaml"), words, env={}, cwd=folder, count_gpus=lambda: 0).job.script
        for words in ((), ("script=train.py",))
    ]
    assert found == ["../train.py", "../train.py"]
    deep = resolve(
        Path("jobs/job.yaml"), ("training.checkpoint.folder=kept",), env={}, cwd=folder, count_gpus=lambda: 0
    )
    assert deep.job.training.checkpoint.folder == "../kept"


def test_folder_of_checkpoints_is_whole_where_processes_start_elsewhere(folder):
    """From an absolute `workdir` nobody could know where the job's folder is."""
    from pathlib import Path

    from jobc.spec.resolve import resolve

    (folder / "job.yaml").write_text(f"script: train.py\nworkdir: {folder}\n")
    found = resolve(Path("job.yaml"), (), env={}, cwd=folder, count_gpus=lambda: 0)
    assert found.job.training.checkpoint.folder == f"{folder}/checkpoints"


def test_anchors_and_merge_keys_work(resolved):
    """YAML's own ways of saying things once."""
    text = "script: train.py\nvars: {base: &base {kind: cpu, per_node: 3}}\nhardware:\n  <<: *base\n  per_node: 2\n"
    assert resolved(text).job.hardware == Cpu(per_node=2, threads_per_process=1)


def test_resolved_spec_does_not_change(resolved):
    """Nothing in a resolved document can be set."""
    spec = resolved("script: train.py\nenv: {A: x}\nvars: {a: {b: 1}}\n")
    with pytest.raises(AttributeError):
        spec.job.name = "other"
    for block in (spec.job.env, spec.job.vars["a"], spec.origins):
        with pytest.raises(TypeError, match="does not change"):
            block["new"] = 1


def test_document_survives_its_json_form(resolved):
    """What a process reads through JOBC_SPEC is what was resolved."""
    spec = resolved("script: train.py\nparadigm: {kind: ddp, static_graph: true}\nenv: {A: x}\n", "precision=bf16")
    again = decode_document(json.dumps(spec.document()).encode(), "spec.json")
    assert (again.job, again.origins) == (spec.job, spec.origins)


@pytest.mark.parametrize("raw", [b"", b"{}", b'{"format": 2, "job": {"name": "a"}}', b'{"format": 1, "job": {}}'])
def test_unreadable_document_is_a_finding(raw):
    """A process that finds no spec it can read says which and why."""
    with pytest.raises(FindingsError, match=r"error\[J502\].*\n  spec.json"):
        decode_document(raw, "spec.json")


@pytest.mark.parametrize("name", ["PWD", "TOKENIZERS_PARALLELISM", "AUTHOR", "KEYBOARD", "MONKEY_KEY"])
def test_innocent_variables_may_be_read(resolved, name):
    """A name that only contains a suspicious word is no credential."""
    assert resolved(f'script: train.py\nargs: ["${{oc.env:{name}}}"]\n', env={name: "x"}).job.args == ("x",)


@pytest.mark.parametrize("name", ["HF_TOKEN", "WANDB_API_KEY", "AWS_SECRET_ACCESS_KEY", "DB_PASSWORD", "github_token"])
def test_credentials_may_not_be_read(resolved, name):
    """The value of a credential never enters a document."""
    with pytest.raises(FindingsError, match=r"error\[J206\]") as caught:
        resolved(f'script: train.py\nargs: ["${{oc.env:{name}}}"]\n', env={name: "hunter2"})
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    ("training", "words"),
    [
        ("{global_batch: 64, micro_batch: 4}", ("64", "4", "4")),
        ("{global_batch: 64, gradient_accumulation: 2}", ("64", "8", "2")),
        ("{global_batch: 64, micro_batch: 4, gradient_accumulation: 4}", ("64", "4", "4")),
        ('{global_batch: "${vars.x}", micro_batch: 4}', ("64", "4", "4")),
        ("{micro_batch: 4, gradient_accumulation: 2}", ("", "4", "2")),
    ],
)
def test_batches_follow_from_the_samples_of_a_step(resolved, training, words):
    """What is left out of three is found from the others and the processes, and arguments can carry it."""
    names = ("global_batch", "micro_batch", "gradient_accumulation")
    args = ", ".join(f'"x${{training.{name}}}"' for name in names[1:])
    text = f"script: train.py\nhardware: {{kind: cpu, per_node: 4}}\nvars: {{x: 64}}\nargs: [{args}]\n"
    spec = resolved(f"{text}training: {training}\n")
    found = [getattr(spec.job.training, name) for name in names]
    assert found == [int(word) if word else None for word in words]
    assert spec.job.args == tuple(f"x{word}" for word in words[1:])


def test_batches_of_groups_that_share_a_model_are_counted_once(resolved):
    """Processes that hold parts of one model read the same batches."""
    text = "script: train.py\nhardware: {kind: gpu, per_node: 8}\nparadigm: {kind: megatron, tp_degree: 4}\n"
    assert resolved(f"{text}training: {{global_batch: 16, micro_batch: 2}}\n").job.training.gradient_accumulation == 4
