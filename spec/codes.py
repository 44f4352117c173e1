"""The catalogue of finding codes. A code never changes its meaning; a retired one is never given away again.

J1xx the document, J2xx overrides and interpolation, J3xx what a plan cannot honour, J4xx a run, J5xx the process.
"""

from __future__ import annotations

from typing import Literal, NamedTuple


class Code(NamedTuple):
    """What a code means, in one sentence."""

    severity: Literal["error", "warning", "hint"]
    title: str


CODES: dict[str, Code] = {
    "J101": Code("error", "The job file cannot be read."),
    "J102": Code("error", "The job file is not valid YAML or TOML."),
    "J103": Code("error", "A key is not known at its level."),
    "J104": Code("error", "A value has the wrong type."),
    "J105": Code("error", "A value is not one of the choices."),
    "J106": Code("error", "A value is out of its range or does not have the form it needs."),
    "J107": Code("error", "A key that is needed is missing."),
    "J108": Code("error", "The document is not a mapping of settings."),
    "J109": Code("error", "A key is written twice in one mapping."),
    "J110": Code("error", "A key belongs to another kind than the one chosen."),
    "J111": Code("error", "The document is too large, too deep or expands too far."),
    "J112": Code("error", "The document uses a YAML tag that would construct an object."),
    "J113": Code("error", "The document's version is not one that this jobc reads."),
    "J114": Code("error", "A group file, or another document that the job builds on, does not exist."),
    "J115": Code("error", "A defaults list does not have the form that it needs."),
    "J116": Code("error", "Documents build on each other in a loop."),
    "J201": Code("error", "An override does not follow the override grammar."),
    "J202": Code("error", "An override names a path that the document does not have."),
    "J203": Code("error", "An interpolation cannot be resolved."),
    "J204": Code("error", "An interpolation reads an environment variable that is not set."),
    "J205": Code("error", "Interpolations refer to each other in a loop."),
    "J206": Code("error", "A secret's value would be copied into the document."),
    "J207": Code("error", "A sweep cannot be taken apart into plans."),
    "J208": Code("error", "An override adds what is already there, or removes a value other than the one that is set."),
    "J301": Code("error", "A job says exactly one of script, module and command."),
    "J302": Code("error", "The script or the folder it runs in does not exist."),
    "J303": Code("error", "The target cannot give the job this many nodes."),
    "J304": Code("error", "The paradigm does not fit the number of processes."),
    "J306": Code("hint", "A setting has no effect with one process."),
    "J307": Code("hint", "A prepared scheduler steps once for every process."),
    "J308": Code("error", "A variable in `env` is one that jobc or the launcher sets."),
    "J309": Code("hint", "Settings were dropped because another kind was chosen."),
    "J310": Code("error", "The devices of this machine cannot be counted."),
    "J311": Code("error", "A setting has no effect beside the others that were chosen."),
    "J312": Code("error", "Two settings say different things about the same devices."),
    "J313": Code("error", "The machines of a job and its nodes do not agree."),
    "J314": Code("hint", "Much is copied to each machine."),
    "J315": Code("error", "A file that would be copied has a name that a plan cannot hold."),
    "J320": Code("hint", "A kind can be planned, and this version of jobc does not run it yet."),
    "J321": Code("error", "The degrees of parallelism do not fit the number of processes."),
    "J322": Code("error", "A number of batches or layers does not divide as the job asks for."),
    "J401": Code("error", "A secret is not in the environment."),
    "J402": Code("error", "A port that the plan needs is already in use."),
    "J403": Code("error", "A command of the plan cannot be started."),
    "J404": Code("error", "The run's folder cannot be written."),
    "J405": Code("error", "A file is no plan that can be run."),
    "J406": Code("error", "A file that a saved plan sends or runs has changed since."),
    "J407": Code("error", "There is no such run."),
    "J408": Code("error", "The record of a run cannot be read."),
    "J409": Code("error", "The job chooses a kind that this version of jobc does not run yet."),
    "J501": Code("error", "The world that the process joined is not the world that the plan says."),
    "J502": Code("error", "The resolved document of the run cannot be read."),
    "J503": Code("error", "A keyword in code contradicts a setting of the job."),
    "J504": Code("error", "An object given to the runtime is not one that it can handle."),
    "J505": Code("error", "The process has no device of the kind that the job asks for."),
    "J506": Code("error", "A tensor's leading size is not that of the batch it came from."),
    "J507": Code("error", "An argument given to the runtime has a value that it cannot have."),
    "J508": Code("error", "The model cannot be cut in pieces as the job says."),
    "J509": Code("error", "Models and optimizers that are prepared do not belong together."),
    "J510": Code("error", "The paradigm cannot do what the code asks for."),
    "J511": Code("error", "The model cannot be compiled as the job says."),
    "J512": Code("hint", "The job accumulates gradients, and the script does not use it."),
    "J513": Code("error", "Processes cannot be started from this one."),
    "J514": Code("warning", "A process keeps the others waiting."),
    "J515": Code("error", "Processes wait for each other in vain."),
    "J516": Code("warning", "The run was asked to end, and nothing could be saved."),
    "J517": Code("error", "A model's gradients were not averaged over the processes."),
    "J518": Code("warning", "Gradients of several batches are added up and not averaged."),
    "J519": Code("error", "Tensors to be put together have other shapes in other processes."),
    "J520": Code("error", "There is no complete checkpoint where one is to be loaded."),
    "J521": Code("error", "A checkpoint is damaged."),
    "J522": Code("error", "A checkpoint is not one of this training."),
    "J523": Code("error", "A checkpoint was written by a newer jobc."),
    "J524": Code("error", "A checkpoint cannot be written."),
    "J525": Code("error", "A checkpoint is still being written."),
    "J526": Code("error", "The job resumes by itself, and the script begins anew."),
    "J527": Code("hint", "A part of a checkpoint does not carry over to this number of processes."),
    "J528": Code("error", "A part of the state could not be read back from a checkpoint."),
    "J530": Code("error", "A name stands for something that jobc does not have yet."),
}
