"""Completion in bash, zsh and fish, on click's own; what differs is how words are cut and when a space follows.

A script hands over the command line up to the cursor in COMP_LINE and gets one candidate on each line, its help after
a tab. Candidates that end in `=`, `.` or `/` are not finished, so no space follows them.
"""

from __future__ import annotations

import os
import re
from typing import Any, ClassVar

from click.shell_completion import CompletionItem, ShellComplete, split_arg_string

VARIABLE = "_JOBC_COMPLETE"
UNFINISHED = ("=", ".", "/")

_BASH = """\
# Completion of jobc in bash; put into ~/.bashrc:  eval "$(jobc completion bash)"
_jobc_completion() {
    local line
    COMPREPLY=()
    while IFS= read -r line; do
        [[ -n $line ]] && COMPREPLY+=("$line")
    done < <(_JOBC_COMPLETE=bash_complete _JOBC_BREAKS="$COMP_WORDBREAKS" \\
        COMP_LINE="${COMP_LINE:0:COMP_POINT}" "${1/#\\~/$HOME}" 2>/dev/null)
}
complete -o nospace -o nosort -F _jobc_completion jobc 2>/dev/null || complete -o nospace -F _jobc_completion jobc
"""

_ZSH = """\
#compdef jobc
# Completion of jobc in zsh; put into ~/.zshrc after compinit:  eval "$(jobc completion zsh)"
_jobc_completion() {
    local line value
    local -a values shown open open_shown
    for line in "${(@f)$(_JOBC_COMPLETE=zsh_complete COMP_LINE="${(j: :)words[1,CURRENT-1]} $PREFIX" \\
        ${(Q)~words[1]} 2>/dev/null)}"; do
        value=${line%%$'\\t'*}
        [[ -z $value ]] && continue
        if [[ $line == *$'\\t'* ]]; then line="$value  -- ${line#*$'\\t'}"; fi
        line=${line[1,COLUMNS-1]}
        if [[ $value == *[=./] ]]; then
            open+=("$value"); open_shown+=("$line")
        else
            values+=("$value"); shown+=("$line")
        fi
    done
    (( $#open )) && compadd -V jobc -l -S '' -d open_shown -a open
    (( $#values )) && compadd -V jobc -l -d shown -a values
    (( $#open + $#values ))
}
if [[ $zsh_eval_context[-1] == loadautofunc ]]; then
    _jobc_completion "$@"
else
    compdef _jobc_completion jobc
fi
"""

_FISH = """\
# Completion of jobc in fish; write into ~/.config/fish/completions/jobc.fish:  jobc completion fish
function __jobc_completion
    set -lx _JOBC_COMPLETE fish_complete
    set -lx COMP_LINE (commandline -cp)
    set -l words (commandline -opc)
    $words[1] 2>/dev/null
end
complete --command jobc --no-files --keep-order --arguments '(__jobc_completion)'
"""


class _Shell(ShellComplete):
    """What the three have in common."""

    def source(self) -> str:
        return self.source_template

    def get_completion_args(self) -> tuple[list[str], str]:
        # A letter after the cursor tells a word that has just begun from one that has ended.
        words = split_arg_string(f"{os.environ.get('COMP_LINE', '')}_")
        while len(words) > 1 and re.match(r"\w+=", words[0]):
            words.pop(0)  # variables before the command
        return words[1:-1], words[-1][:-1]

    def format_completion(self, item: CompletionItem[Any]) -> str:
        text = " ".join((item.help or "").split())
        return f"{item.value}\t{text}" if text else str(item.value)


class Bash(_Shell):
    """bash replaces only what follows the last of its word breaks, and `=` and `:` are among them."""

    name: ClassVar[str] = "bash"
    source_template: ClassVar[str] = _BASH

    def format_completion(self, item: CompletionItem[Any]) -> str:
        value = str(item.value)
        line = os.environ.get("COMP_LINE", "")
        word = self.get_completion_args()[1]
        quoted = not line.endswith(word) or line[: len(line) - len(word)].endswith(("'", '"'))
        if not quoted:
            breaks = set(os.environ.get("_JOBC_BREAKS", "")) & set("=:@")
            cut = max((word.rfind(char) for char in breaks), default=-1) + 1
            value = re.sub(r"([^\w@%+=:,./~\-])", r"\\\1", value[cut:])
        return value if value.endswith(UNFINISHED) or quoted else f"{value} "


class Zsh(_Shell):
    """zsh takes whole words."""

    name: ClassVar[str] = "zsh"
    source_template: ClassVar[str] = _ZSH


class Fish(_Shell):
    """fish takes whole words and leaves out the space after `=`, `.` and `/` by itself."""

    name: ClassVar[str] = "fish"
    source_template: ClassVar[str] = _FISH


SHELLS: dict[str, type[_Shell]] = {shell.name: shell for shell in (Bash, Zsh, Fish)}


def answer(instruction: str) -> int:
    """Prints the candidates for a script's question, `bash_complete`."""
    import click

    from .app import app

    shell = SHELLS.get(instruction.partition("_")[0])
    if shell is None:
        return 2
    click.echo(shell(app, {}, "jobc", VARIABLE).complete())
    return 0
