# Writes variables of this environment to a file, has a command copy it, and removes it: FILE NAMES COMMAND.
umask 077
trap 'rm -f -- "$1"' EXIT
for name in $2; do printf 'export %s=%q\n' "$name" "${!name}"; done >"$1"
"${@:3}"
