"""A real YAML language server with our schema: it complains where jobc complains, and nowhere else."""

from pathlib import Path

import pytest
from jobc.spec import FindingsError
from jobc.spec.resolve import resolve
from jobc.spec.shape import SCHEMA_FILE

GOOD = {
    "one line": "script: train.py\n",
    "shorthands": "script: train.py\nhardware: gpu\nprecision: bf16\nparadigm: ddp\nnodes: 1\ntarget: local\n",
    "long forms": (
        "script: train.py\nhardware: {kind: gpu, per_node: all}\nprecision: {kind: fp16, initial_scale: 1024}\n"
        "paradigm:\n  kind: ddp\n  static_graph: true\nnodes: {count: 1, rendezvous: {port: 29500}}\n"
    ),
    "every scalar among arguments": "script: train.py\nargs: [a, 1, 1.5, true, null]\nenv: {A: 1, B: true, C: x}\n",
    "interpolations": (
        'script: train.py\nvars: {n: 2, word: ddp}\nhardware: {kind: cpu, per_node: "${vars.n}"}\n'
        'paradigm: "${vars.word}"\nnodes: "${oc.env:NODES,1}"\ntraining: {seed: "${vars.n}"}\n'
    ),
    "empty blocks": "script: train.py\ntraining:\nparadigm:\n",
    "precision no": "script: train.py\nprecision: no\n",
    "a command": "command: [./train, --fast]\nsecrets: [HF_TOKEN]\n",
    "anchors": "script: train.py\nvars:\n  a: &a {x: 1}\n  b: {<<: *a, y: 2}\n",
}

BAD = {
    "unknown key": "script: train.py\nscrpt: x\n",
    "unknown key in a block": "script: train.py\ntraining:\n  seed: 1\n  sed: 2\n",
    "key of another kind": "script: train.py\nprecision:\n  kind: bf16\n  initial_scale: 2\n",
    "no such kind": "script: train.py\nhardware:\n  kind: gpus\n",
    "no such word": "script: train.py\nprecision: bf61\n",
    "text for a number": "script: train.py\ntraining:\n  gradient_accumulation: four\n",
    "number out of range": "script: train.py\nhardware:\n  kind: cpu\n  per_node: 0\n",
    "nodes out of range": "script: train.py\nnodes: 0\n",
    "block for a word": "script: {path: train.py}\n",
    "word for a block": "script: train.py\ntraining: fast\n",
    "list for a word": "script: train.py\nlauncher: [torchrun]\n",
    "name with a space": "script: train.py\nname: my job\n",
    "no kind": "script: train.py\nprecision: {initial_scale: 2}\n",
    "newer version": "script: train.py\nversion: 99\n",
    "key written twice": "script: train.py\nname: a\nname: b\n",
    "bracket not closed": "script: train.py\nargs: [a\nname: b\n",
    "several": "scrpt: train.py\nnodes: 0\nprecision: bf61\ntraining:\n  seed: -1\n",
}


def written(folder, text):
    """A job with the first line that the README shows, which names the schema beside it."""
    (folder / "job.schema.json").write_bytes(SCHEMA_FILE.read_bytes())
    path = folder / "job.yaml"
    path.write_text(f"# yaml-language-server: $schema=job.schema.json\n{text}")
    return path


def lines_of_jobc(folder):
    try:
        resolve(Path("job.yaml"), (), env={}, cwd=folder, count_gpus=lambda: 1)
    except FindingsError as error:
        return {finding.place.line for finding in error.findings}
    return set()


@pytest.mark.parametrize("name", GOOD)
def test_good_document_has_no_squiggle(editor, folder, name):
    """What jobc takes, the editor takes."""
    path = written(folder, GOOD[name])
    assert lines_of_jobc(folder) == set()
    assert editor.diagnostics(path) == (set(), [])


@pytest.mark.parametrize("name", BAD)
def test_bad_document_has_its_squiggles_on_the_same_lines(editor, folder, name):
    """What jobc finds, the editor underlines while it is typed."""
    path = written(folder, BAD[name])
    lines, messages = editor.diagnostics(path)
    assert lines == lines_of_jobc(folder), messages


def test_editor_completes_keys_and_kinds(editor, folder):
    """The keys of the kind that was chosen, and the words that a key takes."""
    path = written(folder, "script: train.py\nparadigm:\n  kind: ddp\n  s\n")
    assert "static_graph" in editor.completions(path, 4, 3)
    other = written(folder, "script: train.py\nprecision: b\n").rename(folder / "other.yaml")
    assert {"bf16", "fp16"} <= editor.completions(other, 2, 12)


def test_editor_shows_the_sentence_of_a_field(editor, folder):
    """The sentence that `jobc explain` prints."""
    path = written(folder, "script: train.py\ntraining:\n  seed: 3\n").rename(folder / "hover.yaml")
    editor.diagnostics(path)
    editor.completions(path, 3, 2)
    assert "unset draws one for the run" in editor.hover(path, 3, 3)
