"""`jobc check`: the findings in each form, and an exit code that a script can trust."""

import json

import jsonschema
import pytest

BAD = "scrpt: train.py\nnodes: 0\nname: a\nname: b\n"
HINT = "script: train.py\nparadigm: ddp\n"


@pytest.fixture
def check(jobc_command, folder):
    """Checks a document."""

    def run(document, *words, name="job.yaml"):
        (folder / name).write_text(document)
        return jobc_command("check", name, *words)

    return run


def test_good_job_is_ok(check):
    """One line, exit 0."""
    done = check("script: train.py\n")
    assert (done.returncode, done.stdout, done.stderr) == (0, "job.yaml: ok\n", "")


def test_bad_job_shows_every_finding(check):
    """The findings are what was asked for, so they are on stdout."""
    done = check(BAD, "precision=bf61")
    assert (done.returncode, done.stderr) == (2, "")
    assert "error[J103]: unknown key `scrpt`\n  job.yaml:1:1\n  1 | scrpt: train.py\n" in done.stdout
    assert done.stdout.endswith("4 errors\n")


def test_hints_do_not_fail(check):
    """A hint is shown and the job is good."""
    done = check(HINT)
    assert done.returncode == 0
    assert done.stdout.startswith("hint[J306]")
    assert done.stdout.endswith("job.yaml: ok\n")


def test_plan_time_findings_are_included(check):
    """What only the plan knows, such as a script that is not there."""
    done = check("script: trian.py\n")
    assert done.returncode == 2
    assert "error[J302]" in done.stdout


def test_json_is_one_object(check):
    """The findings as data, with their places."""
    done = check(BAD, "--format", "json")
    said = json.loads(done.stdout)
    assert (done.returncode, said["job"], said["ok"]) == (2, "job.yaml", False)
    assert [finding["code"] for finding in said["findings"]] == ["J109", "J103", "J106"]
    assert said["findings"][1]["place"] == {
        "source": "job.yaml",
        "line": 1,
        "column": 1,
        "length": 5,
        "excerpt": "scrpt: train.py",
    }
    good = json.loads(check(HINT, "--format", "json").stdout)
    assert (good["ok"], [finding["severity"] for finding in good["findings"]]) == (True, ["hint"])


def _closed(required, **properties):
    return {"type": "object", "properties": properties, "required": required, "additionalProperties": False}


_TEXT = _closed(["text"], text={"type": "string", "minLength": 1})
_POSITIVE = {"type": "integer", "minimum": 1}
_LEVEL = {"enum": ["none", "note", "warning", "error"]}
_LOCATION = {
    "id": {"type": "integer", "minimum": -1},
    "message": _TEXT,
    "physicalLocation": _closed(
        ["artifactLocation"],
        artifactLocation=_closed(["uri"], uri={"type": "string", "pattern": "^[^ \\\\]+$"}),
        region=_closed(["startLine"], startLine=_POSITIVE, startColumn=_POSITIVE, endColumn=_POSITIVE, snippet=_TEXT),
    ),
    "logicalLocations": {
        "type": "array",
        "items": _closed(
            ["name"], name={"type": "string"}, fullyQualifiedName={"type": "string"}, kind={"type": "string"}
        ),
    },
}

#: What jobc writes, as SARIF 2.1.0 (OASIS, sections 3.13 to 3.49) has it.
SARIF = _closed(
    ["version", "runs"],
    **{
        "$schema": {"type": "string"},
        "version": {"const": "2.1.0"},
        "runs": {
            "type": "array",
            "minItems": 1,
            "items": _closed(
                ["tool", "results"],
                tool=_closed(
                    ["driver"],
                    driver=_closed(
                        ["name", "rules"],
                        name={"const": "jobc"},
                        version={"type": "string"},
                        rules={
                            "type": "array",
                            "uniqueItems": True,
                            "items": _closed(
                                ["id"],
                                id={"type": "string"},
                                shortDescription=_TEXT,
                                fullDescription=_TEXT,
                                help=_TEXT,
                                defaultConfiguration=_closed([], level=_LEVEL),
                            ),
                        },
                    ),
                ),
                columnKind={"enum": ["utf16CodeUnits", "unicodeCodePoints"]},
                invocations={
                    "type": "array",
                    "items": _closed(
                        ["executionSuccessful"], executionSuccessful={"type": "boolean"}, exitCode={"type": "integer"}
                    ),
                },
                results={
                    "type": "array",
                    "items": _closed(
                        ["message"],
                        ruleId={"type": "string"},
                        ruleIndex={"type": "integer", "minimum": 0},
                        level=_LEVEL,
                        message=_TEXT,
                        locations={"type": "array", "minItems": 1, "items": _closed([], **_LOCATION)},
                        relatedLocations={"type": "array", "items": _closed(["id"], **_LOCATION)},
                    ),
                },
            ),
        },
    },
)


@pytest.mark.parametrize(
    ("document", "words"),
    [("script: train.py\n", ()), (BAD, ("precision=bf61",)), (HINT, ()), ("- a list\n", ()), ("a: [\n", ())],
)
def test_sarif_has_the_structure_of_the_standard(check, document, words):
    """Code scanning takes it: the structure, and rules that the results point at."""
    log = json.loads(check(document, *words, "--format", "sarif").stdout)
    jsonschema.Draft202012Validator(SARIF).validate(log)
    (run,) = log["runs"]
    rules = run["tool"]["driver"]["rules"]
    for result in run["results"]:
        assert rules[result["ruleIndex"]]["id"] == result["ruleId"]


def test_sarif_points_at_the_words(check, folder):
    """Lines and columns of a file; an override is named and stands at the job file."""
    (folder / "a b").mkdir()
    log = json.loads(check(BAD, "precision=bf61", "--format", "sarif", name="a b/job.yaml").stdout)
    results = {result["ruleId"]: result for result in log["runs"][0]["results"]}
    place = results["J103"]["locations"][0]["physicalLocation"]
    assert place["artifactLocation"]["uri"] == "a%20b/job.yaml"
    assert place["region"] == {
        "startLine": 1,
        "startColumn": 1,
        "endColumn": 6,
        "snippet": {"text": "scrpt: train.py"},
    }
    assert results["J109"]["relatedLocations"][0]["physicalLocation"]["region"]["startLine"] == 3
    override = results["J105"]["locations"][0]
    assert override["logicalLocations"][0]["fullyQualifiedName"] == "precision=bf61"
    assert "region" not in override["physicalLocation"]


def test_github_commands_are_escaped(check, folder):
    """GitHub cuts a command at `::`, commas and line breaks, so those of a finding are escaped."""
    (folder / "a,b:c").mkdir()
    done = check("script: train.py\nname: 50%\n", "--format", "github", name="a,b:c/job.yaml")
    assert done.returncode == 2
    assert (
        done.stdout
        == (
            "::error file=a%2Cb%3Ac/job.yaml,line=2,col=7,endColumn=10,title=J106::`name` is letters, digits, `.`, `_` and"
            " `-`, at most 63, a letter or digit first; here it is the text `50%25`\n"
        )
        + done.stdout.partition("\n")[2]
    )
    for line in done.stdout.splitlines():
        assert line.startswith("::error file=a%2Cb%3Ac/job.yaml,")


def test_github_has_a_level_for_each_severity(check):
    """A hint is a notice; an override stands at the job file; a good job prints nothing."""
    assert check(HINT, "--format", "github").stdout.startswith("::notice file=job.yaml,line=2,")
    said = check("script: train.py\n", "precision=bf61", "--format", "github").stdout
    assert said.startswith("::error file=job.yaml,title=J105::override 1 `precision=bf61`: `precision` is")
    assert said.endswith("%0Adid you mean `bf16`?\n")
    assert check("script: train.py\n", "--format", "github").stdout == ""


def test_mistake_in_a_group_file_is_shown_there(check, folder):
    """A finding of another document names that file; one of a preset stands at the job, for the file is not the user's."""
    (folder / "sub" / "hardware").mkdir(parents=True)
    (folder / "sub" / "hardware" / "bad.yaml").write_text("kind: gpu\nper_nod: 8\n")
    said = check("script: train.py\n", "hardware=bad", "--format", "github", name="sub/job.yaml").stdout
    assert said.startswith("::error file=sub/hardware/bad.yaml,line=2,col=1,endColumn=8,title=J103::unknown key")
    preset = check("script: train.py\n", "hardware=gpus", "--format", "github").stdout
    assert preset.startswith("::error file=job.yaml,title=J310::preset hardware/gpus.yaml:3:11 `per_node: all`: ")


@pytest.mark.parametrize("form", ["text", "json", "sarif", "github"])
def test_path_that_is_no_utf_8_is_a_finding(check, jobc_command, form):
    """A name is bytes; it is shown as well as it can be."""
    env = {"PYTHONIOENCODING": "utf-8:strict"}
    done = jobc_command("check", "\udcff.yaml", "name=\udcff", "--format", form, env=env, errors="replace")
    assert (done.returncode, done.stderr) == (2, "")
    assert "J101" in done.stdout


def test_config_dir_is_searched(check, folder):
    """Group files of another folder."""
    (folder / "shared" / "hardware").mkdir(parents=True)
    (folder / "shared" / "hardware" / "mine.yaml").write_text("kind: cpu\n")
    assert check("script: train.py\n", "hardware=mine").returncode == 2
    assert check("script: train.py\n", "hardware=mine", "--config-dir", "shared").returncode == 0
