"""From Accelerate's plugins for sharding and compiling to the fields of the job's blocks."""

from __future__ import annotations

from typing import Any

from .plugins import FullyShardedDataParallelPlugin, TorchDynamoPlugin
from .refusals import Refusals

_ALWAYS = "leave it away: `fully_shard` always works the one way that it stands for"
_LATER = "leave it away: this version of jobc does not have it yet"

#: Fields of the sharding plugin with the values that change nothing here, and what to do about others.
_FIXED: dict[str, tuple[tuple[Any, ...], str]] = {
    "fsdp_version": ((None, 2), "use 2: jobc shards with `fully_shard`, which is FSDP2"),
    "backward_prefetch": ((None, "BACKWARD_PRE"), _ALWAYS),
    "mixed_precision_policy": ((None,), "use `mixed_precision`, or `precision` in the job"),
    "ignored_modules": ((None,), "name the modules in the job, with `paradigm.ignored`"),
    "state_dict_type": ((None, "FULL_STATE_DICT"), _LATER),
    "state_dict_config": ((None,), _LATER),
    "optim_state_dict_config": ((None,), _LATER),
    "limit_all_gathers": ((True,), _ALWAYS),
    "use_orig_params": ((None, True), _ALWAYS),
    "param_init_fn": ((None,), "give the model its values before it is prepared"),
    "sync_module_states": ((None, True), "leave it away: all processes get what the first one has"),
    "forward_prefetch": ((None, False), _ALWAYS),
    "cpu_ram_efficient_loading": ((None, False), _LATER),
}
#: What each strategy frees after the forward pass, and over which processes it spreads the pieces.
_STRATEGIES = {
    ("FULL_SHARD", "1"): (True, "full"),
    ("SHARD_GRAD_OP", "2"): (False, "full"),
    ("HYBRID_SHARD", "4"): (True, "hybrid"),
    ("HYBRID_SHARD_ZERO2", "_HYBRID_SHARD_ZERO2", "5"): (False, "hybrid"),
}
_POLICIES = {"no_wrap": "none", "size_based_wrap": "size"}
_WORDS = {"true": True, "false": False}


def sharding(plugin: FullyShardedDataParallelPlugin, refusals: Refusals) -> dict[str, Any]:
    """The fields of the paradigm `fsdp` that the plugin sets."""
    for field, (values, step) in _FIXED.items():
        given = getattr(plugin, field)
        if getattr(given, "name", given) not in values and given not in values:
            refusals.refuse("fsdp_plugin", f"`{field}={given!r}` cannot be honoured", step)
    found: dict[str, Any] = {}
    strategy = plugin.sharding_strategy
    if strategy is not None:
        word = str(getattr(strategy, "name", strategy)).upper()
        known = next((values for words, values in _STRATEGIES.items() if word in words), None)
        if known is not None:
            found["reshard_after_forward"], found["sharding"] = known
        else:
            step = "use `FULL_SHARD`, `SHARD_GRAD_OP` or `HYBRID_SHARD`; `paradigm=ddp` shards nothing"
            refusals.refuse("fsdp_plugin", f"`sharding_strategy={word}` cannot be honoured", step)
    if plugin.cpu_offload is not None:
        found["offload"] = _offloads(plugin.cpu_offload)
    if plugin.reshard_after_forward is not None:
        word = str(plugin.reshard_after_forward).lower()
        if word in _WORDS:
            found["reshard_after_forward"] = _WORDS[word]
        else:
            refusals.refuse("fsdp_plugin", f"`reshard_after_forward={word}` cannot be honoured", "use True or False")
    wrap = _wrap(plugin, refusals)
    if wrap == "size" and plugin.min_num_params is not None:
        found["min_parameters"] = max(plugin.min_num_params, 1)
    elif plugin.min_num_params:
        step = "add `auto_wrap_policy='size_based_wrap'`, or leave it away"
        refusals.refuse("fsdp_plugin", f"`min_num_params={plugin.min_num_params}` has no effect", step)
    return found if wrap is None else found | {"wrap": wrap}


def compilation(backend: Any, plugin: TorchDynamoPlugin | None, refusals: Refusals) -> dict[str, Any]:
    """The fields of `training.compile` that are set."""
    word = None if backend is None else _word(backend)
    if plugin is None:
        return {} if word in (None, "no") else {"backend": word}
    if word is not None:
        refusals.refuse("dynamo_backend", "there is a `dynamo_plugin` too", "give its `backend` to the plugin")
    if plugin.options is not None:
        step = "leave it away; `mode` chooses among torch's sets of options"
        refusals.refuse("dynamo_plugin", "`options` cannot be honoured", step)
    chosen = "no" if plugin.backend is None else _word(plugin.backend)
    if plugin.disable or chosen == "no":
        return {}
    given = {
        "backend": chosen,
        "mode": plugin.mode,
        "fullgraph": plugin.fullgraph,
        "dynamic": plugin.dynamic,
        "regional": plugin.use_regional_compilation,
    }
    return {name: value for name, value in given.items() if value is not None}


def _wrap(plugin: FullyShardedDataParallelPlugin, refusals: Refusals) -> Any:
    names = plugin.transformer_cls_names_to_wrap
    policy = plugin.auto_wrap_policy
    word = policy if policy is None else str(getattr(policy, "name", policy)).lower()
    if word in _POLICIES:
        return _POLICIES[word]
    if word in (None, "transformer_based_wrap"):
        return tuple(names) if names else ("auto" if word else None)
    step = "use 'transformer_based_wrap', 'size_based_wrap' with `min_num_params`, 'no_wrap', or leave it away"
    refusals.refuse("fsdp_plugin", f"`auto_wrap_policy={word}` cannot be honoured", step)
    return None


def _offloads(given: Any) -> bool:
    """A truth value, FSDP1's CPUOffload, or one of FSDP2's policies."""
    if type(given).__name__.endswith("Policy"):
        return type(given).__name__ == "CPUOffloadPolicy"
    return bool(getattr(given, "offload_params", given))


def _word(backend: Any) -> str:
    """Accelerate's enumeration, or the word itself."""
    return str(getattr(backend, "name", backend)).lower()
