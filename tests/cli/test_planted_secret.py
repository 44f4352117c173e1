"""A secret planted in the environment is in no output of any command, whatever a document does to get at it."""

import pytest

SECRET = "hunter2[planted,=value"
NAME = "JOBC_PLANTED_TOKEN"
READ = f"${{oc.env:{NAME}}}"

DOCUMENTS = {
    "listed": f"script: train.py\nsecrets: [{NAME}]\n",
    "listed twice": f"script: train.py\nsecrets: [{NAME}, {NAME}]\nenv: {{{NAME}: x}}\n",
    "listed and read": f'script: train.py\nsecrets: [{NAME}]\nargs: ["{READ}"]\n',
    "argument": f'script: train.py\nargs: [--token, "{READ}"]\n',
    "part of an argument": f'script: train.py\nargs: ["--token=a{READ}b"]\n',
    "variable": f'script: train.py\nenv: {{TOKEN: "{READ}"}}\n',
    "name of the job": f'script: train.py\nname: "{READ}"\n',
    "script": f'script: "{READ}"\n',
    "kind": f'script: train.py\nprecision: "{READ}"\n',
    "number": f'script: train.py\nnodes: "{READ}"\n',
    "block": f'script: train.py\ntraining: "{READ}"\n',
    "list": f'script: train.py\nargs: "{READ}"\n',
    "name of a secret": f'script: train.py\nsecrets: ["{READ}"]\n',
    "version": f'script: train.py\nversion: "{READ}"\n',
    "by another value": f'script: train.py\nvars: {{a: "{READ}", b: "${{vars.a}}"}}\nargs: ["${{vars.b}}"]\n',
    "name put together": f'script: train.py\nvars: {{n: {NAME}}}\nargs: ["${{oc.env:${{vars.n}}}}"]\n',
    "decoded": f'script: train.py\nvars: {{x: "${{oc.decode:{READ}}}"}}\n',
    "path": f'script: train.py\nvars: {{x: "${{{READ}}}"}}\n',
    "selected": f'script: train.py\nvars: {{x: "${{oc.select:{READ}}}"}}\n',
    "resolver": f'script: train.py\nvars: {{x: "${{{READ}:1}}"}}\n',
    "as a default": f'script: train.py\nargs: ["${{oc.env:NOT_SET_AT_ALL,{READ}}}"]\n',
    "as a variable's name": f'script: train.py\nargs: ["${{oc.env:{READ}}}"]\n',
    "keys": f'script: train.py\nvars: {{x: "${{oc.dict.values:{READ}}}"}}\n',
    "defaults list": f'defaults: [{{hardware: "{READ}"}}, _self_]\nscript: train.py\n',
    "base document": f'defaults: ["{READ}", _self_]\nscript: train.py\n',
    "beside other mistakes": f'scrpt: train.py\nnodes: 0\nargs: ["{READ}"]\n',
    "renamed secret": 'script: train.py\nvars: {n: MY_LOGIN}\nsecrets: ["${vars.n}"]\nargs: ["${oc.env:MY_LOGIN}"]\n',
    "late secret": 'script: MY_LOGIN.py\nsecrets: ["${name}"]\nargs: ["${oc.env:MY_LOGIN}"]\n',
    "good": "script: train.py\n",
}

COMMANDS = [
    ("plan",),
    ("plan", "--format", "json"),
    ("plan", "--format", "sh"),
    ("explain",),
    ("explain", "--format", "json"),
    ("check",),
    ("check", "--format", "json"),
    ("check", "--format", "sarif"),
    ("check", "--format", "github"),
]
OVERRIDES = [(), (f"args=['{READ}']",), (f"hardware=${{oc.env:{NAME}}}",), (f"+name={READ}", f"training.seed='{READ}'")]


@pytest.fixture
def outputs(folder, monkeypatch, capfd):
    """What a command prints, run in this process: a thousand of them in a moment."""
    import sys

    from jobc.cli import main

    monkeypatch.setenv(NAME, SECRET)
    monkeypatch.setenv("MY_LOGIN", SECRET)

    def run(*words):
        monkeypatch.setattr(sys, "argv", ["jobc", *words])
        code = main()
        said = capfd.readouterr()
        return code, said.out + said.err

    return run


@pytest.mark.parametrize("name", DOCUMENTS)
def test_planted_secret_is_in_no_output(outputs, folder, name):
    """Every command in every form, with and without overrides that read it."""
    (folder / "job.yaml").write_text(DOCUMENTS[name])
    for first, *options in COMMANDS:
        for overrides in OVERRIDES:
            code, said = outputs(first, "job.yaml", *overrides, *options)
            assert code in (0, 2), said
            assert "hunter2" not in said, (first, options, overrides, said)
            assert "planted," not in said, (first, options, overrides, said)


def test_planted_secret_is_in_no_sweep(outputs, folder):
    """Nor in a table of plans."""
    (folder / "job.yaml").write_text("script: train.py\n")
    for words in (("precision=bf16,fp16", f"args=['{READ}']"), (f"name=a,{READ}",), (f"secrets=[{NAME}]", "nodes=1")):
        code, said = outputs("plan", "job.yaml", "-m", *words)
        assert code in (0, 2)
        assert "hunter2" not in said
