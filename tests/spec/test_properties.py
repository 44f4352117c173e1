"""Properties of every document there is: thousands of them, made and broken by Hypothesis.

A document is a job or findings, never an exception; a resolved job resolved again is the same; an origin points at the
line that holds the value; and a plan's digest depends on what is meant, not on how it is written.
"""

import json
import os
import re
from pathlib import Path

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from jobc.compiler.compile import compile_plan
from jobc.compiler.text import render_text
from jobc.spec import FindingsError
from jobc.spec.describe import fields
from jobc.spec.explain import rows
from jobc.spec.resolve import resolve
from jobc.spec.scalars import read_scalar

settings.register_profile("jobc", deadline=None, suppress_health_check=list(HealthCheck))
settings.register_profile("jobc-ci", settings.get_profile("jobc"), derandomize=True, database=None)
settings.load_profile("jobc-ci" if os.environ.get("CI") else "jobc")

#: A longer search: JOBC_EXAMPLES=20 make test ARGS=spec/test_properties.py
TIMES = int(os.environ.get("JOBC_EXAMPLES", "1"))
FEW, SOME, MANY = (settings(max_examples=count * TIMES) for count in (150, 500, 1500))

YAML = [
    "script: train.py\nhardware: {kind: cpu, per_node: 2}\nparadigm: ddp\n",
    (
        "version: 1\nname: digits\nscript: train.py\nargs: [--lr, 1e-4, 'a b', \"c\\n\"]\nenv: {A: 1, B: 'yes'}\n"
        "hardware:\n  kind: gpu\n  per_node: all\nprecision:\n  kind: fp16\n  initial_scale: 1024\n"
        "training:\n  seed: 3\n  scheduler: {step: optimizer_step}\n  dataloader:\n    even_batches: false\n"
    ),
    (
        'script: train.py\nvars: {n: 2, word: ddp, deep: {a: [1, {b: c}]}}\nparadigm: "${vars.word}"\n'
        'hardware: {kind: cpu, per_node: "${vars.n}"}\nargs: ["${oc.env:HOME}", "${oc.env:NOPE,x}", "\\\\${literal}"]\n'
        "secrets: [HF_TOKEN]\nnodes: {count: 1, rendezvous: {port: 29500}}\n"
    ),
    "defaults: [{hardware: h200x8}, _self_]\nmodule: pkg.train\nparadigm:\n  kind: ddp\n  static_graph: true\n",
    "a: &a {seed: 1}\ntraining: {<<: *a, gradient_accumulation: 2}\nscript: train.py\n",
    'script: |\n  train.py\n? [x]\n: y\nname: !!str "n"\n--- \n...\n# end\n',
]
TOML = [
    'script = "train.py"\nhardware = {kind = "cpu", per_node = 2}\nparadigm = "ddp"\n',
    (
        'version = 1\nname = "digits"\nscript = "train.py"\nargs = ["--lr", 1e-4, true]\n[training]\nseed = 7\n'
        'scheduler.step = "optimizer_step"\n[env]\nA = "1"\n[hardware]\nkind = "gpu"\nper_node = "all"\n'
        '[[vars.list]]\na = 1979-05-27T07:32:00Z\n[[vars.list]]\n"b c" = """x\ny"""\n'
    ),
]
OVERRIDES = [
    "precision=bf16",
    "nodes.count=1",
    "+training.seed=4",
    "++paradigm.static_graph=true",
    "~env.A",
    "~training",
    "args=[a,'b c',1e-4,[x],{k: v}]",
    'name="a b"',
    "env={A: 1, B: 'x, y'}",
    "hardware=h200x8",
    "hardware={kind: cpu, per_node: 3}",
    "vars.x=${training.seed}",
    "training.seed=range(1,4)",
    "precision=choice(bf16,fp16)",
    "precision=bf16,fp16",
    "vars.y=int('3')",
    "hardware@training=x",
    "hardware@training=",
    "hardware/a={b: 1}",
    "defaults=[a]",
]
ENV = {"HOME": "/home/me", "HF_TOKEN": "hidden"}
PATHS = sorted({field.path for field in fields()})
SNIPPETS = [
    *"{}[]()'\"\\:,#&*!|>%@`~=+-?.\t\n\r \0",
    *(
        "${",
        "}",
        "<<",
        "---",
        "...",
        "!!python/name:os",
        "${oc.env:",
        "???",
        "\ufeff",
        "\u2028",
        "\x85",
        "é",
        "\U0001f600",
    ),
    *("null", "true", ".nan", "1e999", "9" * 30, "0x", "_self_", "kind", "all", "defaults", "- ", "[" * 70, "? "),
]
ANYTHING = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | ANYTHING | st.sampled_from(SNIPPETS),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(ANYTHING | st.sampled_from(PATHS), inner, max_size=3),
    max_leaves=6,
)


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A folder with a script and a group file."""
    folder = tmp_path_factory.mktemp("properties")
    (folder / "train.py").write_text("")
    (folder / "hardware").mkdir()
    (folder / "hardware" / "dgx.yaml").write_text("kind: gpu\nper_node: 8\n")
    return folder


@st.composite
def broken(draw, texts):
    """A good text with a few spans deleted, doubled, moved or replaced."""
    text = draw(st.sampled_from(texts))
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(text)))
        end = min(len(text), at + draw(st.integers(0, 12)))
        match draw(st.integers(0, 4)):
            case 0:
                text = text[:at] + text[end:]
            case 1:
                text = text[:end] + text[at:end] + text[end:]
            case 2:
                text = text[:at] + draw(st.sampled_from(SNIPPETS) | ANYTHING) + text[end:]
            case 3:
                text = text[:at] + draw(st.sampled_from(PATHS)) + text[at:]
            case _:
                lines = text.splitlines(keepends=True)
                lines.insert(draw(st.integers(0, len(lines))), draw(st.sampled_from(lines or ["\n"])))
                text = "".join(lines)
    return text


def dumped(value, indent=None):
    """JSON, which is YAML: as text, because YAML knows no pairs of surrogates."""
    return json.dumps(value, ensure_ascii=False, indent=indent)


def look(folder, text, overrides=(), name="job.yaml"):
    """Everything that jobc does with a document short of running it: a spec and its plan, or None after findings."""
    (folder / name).write_text(text, encoding="utf-8", newline="")
    try:
        spec = resolve(Path(name), overrides, env=ENV, cwd=folder, count_gpus=lambda: 1)
        rows(spec)
        plan = compile_plan(spec)
    except FindingsError as error:
        findings = error.findings
    else:
        findings = ()
        said = render_text(plan, spec, "again", color=False, width=100)
    if findings:
        assert "hidden" not in "".join(finding.render() for finding in findings)
        return None
    assert "hidden" not in said
    return spec, plan


@MANY
@given(text=broken(YAML))
def test_broken_yaml_is_findings(home, text):
    """Whatever became of a YAML document, jobc says it in findings."""
    look(home, text)


@SOME
@given(text=broken(TOML))
def test_broken_toml_is_findings(home, text):
    """The same for TOML."""
    look(home, text, name="job.toml")


@SOME
@given(overrides=st.lists(broken(OVERRIDES) | ANYTHING, min_size=1, max_size=3), text=st.sampled_from(YAML[:3]))
def test_broken_overrides_are_findings(home, overrides, text):
    """Whatever stands on the command line."""
    look(home, text, tuple(overrides))


@MANY
@given(chosen=st.lists(st.tuples(st.sampled_from(PATHS), VALUES), max_size=4))
def test_any_value_at_any_path_is_findings(home, chosen):
    """Every type of value at every field of the document."""
    document = {"script": "train.py"}
    for path, value in chosen:
        block = document
        *above, key = path.split(".")
        for part in above:
            block = block[part] if isinstance(block.get(part), dict) else block.setdefault(part, {})
            if not isinstance(block, dict):
                break
        else:
            block[key] = value
    look(home, dumped(document))


# --- good documents -------------------------------------------------------------------------------------------------

WORDS = st.text("abcxyz019 _-./:,'\"#{}[]éß\U0001f600", max_size=10).filter(lambda text: text != "???")
VARIABLES = st.from_regex(re.compile(r"V_[A-Z0-9_]{0,5}", re.ASCII), fullmatch=True)
SCALARS = WORDS | st.integers(-(2**53), 2**53) | st.booleans()
PLAIN = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(VARIABLES, inner, max_size=3), max_leaves=5
)


def block(**keys):
    return st.fixed_dictionaries({}, optional=keys)


COUNTS = st.integers(2, 6)
GOOD = st.fixed_dictionaries(
    {
        "script": st.just("train.py"),
        "hardware": st.fixed_dictionaries({"kind": st.sampled_from(["cpu", "gpu"]), "per_node": COUNTS}),
    },
    optional={
        "version": st.just(1),
        "name": st.from_regex(re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,8}", re.ASCII), fullmatch=True),
        "args": st.lists(SCALARS, max_size=4),
        "env": st.dictionaries(VARIABLES, SCALARS, max_size=3),
        "secrets": st.lists(st.sampled_from(["S_A", "S_B"]), max_size=2, unique=True),
        "launcher": st.sampled_from(["auto", "torchrun", "python"]),
        "precision": st.sampled_from(["no", "bf16"])
        | st.fixed_dictionaries({"kind": st.just("fp16")}, optional={"growth_interval": st.integers(1, 99)}),
        "paradigm": st.just("ddp")
        | st.fixed_dictionaries({"kind": st.just("ddp")}, optional={"static_graph": st.booleans()}),
        "nodes": st.just(1) | block(count=st.just(1), rendezvous=block(port=st.integers(1024, 65535))),
        "training": block(
            seed=st.integers(0, 2**32 - 1),
            gradient_accumulation=st.integers(1, 64),
            scheduler=block(step=st.sampled_from(["per_process", "optimizer_step"])),
            dataloader=block(split_batches=st.booleans(), even_batches=st.booleans()),
        ),
        "vars": st.dictionaries(VARIABLES, PLAIN, max_size=3),
    },
)


def good(folder, text, name="job.yaml"):
    found = look(folder, text, name=name)
    assert found is not None, text
    return found


@SOME
@given(document=GOOD)
def test_resolving_a_resolved_job_changes_nothing(home, document):
    """Every value written out is the same job: defaults, shorthands and derived values are settled."""
    spec, plan = good(home, dumped(document))
    again, planned = good(home, dumped(spec.values()))
    assert again.job == spec.job
    assert planned.digest == plan.digest


@FEW
@given(document=GOOD, flow=st.sampled_from([None, False, True]))
def test_origin_points_at_the_value(home, document, flow):
    """The line and column of an origin hold the text of the value that it is the origin of."""
    text = yaml_of(document, flow)
    spec, _ = good(home, text)
    lines = text.split("\n")
    values = {row.path: row.value for row in rows(spec)}
    seen = 0
    for path, value in values.items():
        origin = spec.origins.get(path)
        if origin is None or origin.layer != "file" or isinstance(value, dict | list | tuple):
            continue
        written = lines[origin.line - 1][origin.column - 1 :][: origin.length]
        read = yaml.load(written, yaml.BaseLoader)
        quoted = written[:1] in {"'", '"'}
        assert value in (read, None if quoted else read_scalar(read)) or str(value) == read, (path, written)
        seen += 1
    assert seen >= 3


class Dumper(yaml.SafeDumper):
    """Writes YAML 1.2: text that would be read as a number (`08`, which YAML 1.1 takes for text) is quoted."""


def _text(dumper, value):
    style = None if read_scalar(value) == value else '"'
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style=style)


Dumper.add_representer(str, _text)


def yaml_of(document, flow):
    return yaml.dump(document, Dumper=Dumper, default_flow_style=flow, width=10**6, allow_unicode=True, sort_keys=False)


def toml(value):
    """A value as inline TOML."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{dumped(key)} = {toml(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return f"[{', '.join(map(toml, value))}]"
    return dumped(value)


def shuffled(value, random):
    if isinstance(value, dict):
        keys = list(value)
        random.shuffle(keys)
        return {key: shuffled(value[key], random) for key in keys}
    return [shuffled(item, random) for item in value] if isinstance(value, list) else value


@FEW
@given(document=GOOD, random=st.randoms(use_true_random=False))
def test_digest_is_that_of_the_meaning(home, document, random):
    """Order of keys and format of the file are spelling."""
    expected = good(home, dumped(document))[1].digest
    other = shuffled(document, random)
    assert good(home, dumped(other, indent=1))[1].digest == expected
    written = "\n".join(f"{dumped(key)} = {toml(value)}" for key, value in other.items())
    assert good(home, written, name="job.toml")[1].digest == expected


@FEW
@given(document=GOOD, random=st.randoms(use_true_random=False))
def test_block_style_means_the_same(home, document, random):
    """Block and flow style too."""
    expected = good(home, dumped(document))[0].job
    text = yaml_of(shuffled(document, random), flow=False)
    assert good(home, text)[0].job == expected
