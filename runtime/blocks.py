"""The repeated blocks of a model: layers of one class, one after another, gathered or compiled one at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase

from torch import nn

from ..spec.findings import Finding, FindingsError, did_you_mean, finding

_CONTAINERS = (nn.ModuleList, nn.ModuleDict, nn.ParameterList, nn.ParameterDict)


def repeated(model: nn.Module) -> list[nn.Module]:
    """The modules of each outermost list whose items are of one class, in the order of the model; each once.

    A list is a ModuleList or a Sequential of two or more modules with parameters.
    """
    return list({id(block): block for block in _repeated(model)}.values())


def _repeated(module: nn.Module) -> Iterator[nn.Module]:
    items = list(module.children()) if isinstance(module, nn.ModuleList | nn.Sequential) else []
    alike = len({type(item) for item in items}) == 1 and not isinstance(items[0], _CONTAINERS)
    if len(items) > 1 and alike and all(any(True for _ in item.parameters()) for item in items):
        yield from items
        return
    for child in module.children():
        yield from _repeated(child)


def of_classes(model: nn.Module, names: Sequence[str]) -> list[nn.Module]:
    """The modules of the classes with these names, inner ones before those that hold them.

    Raises:
        FindingsError: J508, no module of the model is of any of these classes. One model need not have all of them:
            several models may be prepared, and the names are for all.
    """
    found = [module for module in model.modules() if type(module).__name__ in names]
    if not found:
        raise FindingsError((_missing(names, model),))
    return found[::-1]


def of_size(model: nn.Module, least: int) -> list[nn.Module]:
    """The modules with at least so many parameters beside those of modules within them that are chosen already.

    Inner ones come before those that hold them; what is left over is the model's own.
    """
    chosen: list[nn.Module] = []

    def left_over(module: nn.Module) -> dict[int, int]:
        found = {id(parameter): parameter.numel() for parameter in module.parameters(recurse=False)}
        for child in module.children():
            found |= left_over(child)
        if module is model or isinstance(module, _CONTAINERS) or sum(found.values()) < least:
            return found
        chosen.append(module)
        return {}

    left_over(model)
    return list({id(module): module for module in chosen}.values())


def of_names(model: nn.Module, patterns: Sequence[str]) -> dict[str, nn.Module]:
    """The modules whose names match one of some patterns, by name.

    Raises:
        FindingsError: J508, a pattern matches none.
    """
    names = [name for name, _ in model.named_modules() if name]
    found: dict[str, nn.Module] = {}
    for pattern in patterns:
        matching = [name for name in names if fnmatchcase(name, pattern)]
        if not matching:
            raise FindingsError((_unmatched(pattern, names, model),))
        found |= {name: model.get_submodule(name) for name in matching}
    return found


def _unmatched(pattern: str, names: list[str], model: nn.Module) -> Finding:
    near = did_you_mean(pattern, names)
    shown = ", ".join(names[:8]) + (" and more" if len(names) > 8 else "")
    step = f"the model has {shown}"
    return finding(
        "J508",
        f"`paradigm.ignored` names `{pattern}`, and no module of the {type(model).__name__} has such a name",
        next_step=step if near is None else f"{near}\n{step}",
    )


def candidates(model: nn.Module) -> list[str]:
    """The classes of a model's modules that hold parameters, its own first and each once."""
    modules = (module for module in model.modules() if any(True for _ in module.parameters()))
    names = dict.fromkeys(type(module).__name__ for module in modules if not isinstance(module, _CONTAINERS))
    return list(names)


def _missing(names: Sequence[str], model: nn.Module) -> Finding:
    known = candidates(model)
    near = next((hint for hint in (did_you_mean(name, known) for name in names) if hint is not None), None)
    step = f"the model has {', '.join(known)}; or use `wrap: auto`, which takes the repeated blocks"
    shown = ", ".join(f"`{name}`" for name in names)
    return finding(
        "J508",
        f"`paradigm.wrap` names {shown}, and no module of the {type(model).__name__} is of such a class",
        next_step=step if near is None else f"{near}\n{step}",
    )
