#!/bin/bash
# One machine of a slice of TPUs. Arguments: start, state, logs, follow or stop.
run=<run_id>
nodes=2 per_node=8 processes=1
address=''
limit='' tagged=yes
process_0() {
  set -e
  export TPU_WORKER_HOSTNAMES="$workers"
  set -- bash -c 'set -ea
found=$("$0" -m torch.tpu.distributed)
eval "$found"
PET_NNODES="$NNODES" PET_NODE_RANK="$NODE_RANK" PET_MASTER_ADDR="$MASTER_ADDR" PET_MASTER_PORT="$MASTER_PORT"
exec "$@"' python3 python3 -m torch.distributed.run --nproc-per-node=8 --tee=3 --log-dir=../logs -- train.py
  unset "${!PET_@}"
  export JOBC_SPEC=<packed_spec>
  export JOB_COMPLETION_INDEX="${node}"
  export OMP_NUM_THREADS=1
  export PJRT_DEVICE=TPU
  export PYTHONUNBUFFERED=1
  export TORCHELASTIC_LOG_LINE_PREFIX_TEMPLATE='[${rank}] '
  export TPU_WORKER_ID="${node}"
  cd -- files || exit
  exec "$@"
}

# Above is what the job says; from here on every job's script is the same.

# An attribute of this machine. GCE_METADATA_HOST is Google's own variable for a metadata server elsewhere.
attribute() {
  curl --silent --fail --max-time 10 --header 'Metadata-Flavor: Google' \
    "http://${GCE_METADATA_HOST:-metadata.google.internal}/computeMetadata/v1/instance/attributes/$1"
}

# Sets `node`, the number of this machine, `workers`, the addresses of all, and `head`, where processes meet.
find_place() {
  node=0 workers=127.0.0.1
  if [ "$nodes" -gt 1 ]; then
    node=${TPU_WORKER_ID:-$(attribute agent-worker-number || attribute worker-id)}
    workers=${TPU_WORKER_HOSTNAMES:-$(attribute worker-network-endpoints)}
    workers=$(tr ',' '\n' <<<"$workers" | sed 's/.*://' | paste -s -d ,)
    if ! [[ $node =~ ^[0-9]+$ ]]; then
      echo "jobc: this machine does not know which worker of the slice it is: '$node'" >&2
      return 1
    fi
    if [ "$(tr ',' '\n' <<<"$workers" | grep -c .)" -ne "$nodes" ]; then
      echo "jobc: the slice has the workers '$workers', and the job has $nodes nodes" >&2
      return 1
    fi
  fi
  # shellcheck disable=SC2034 # processes of several machines ask for it
  head=${address:-${workers%%,*}}
}

say() {
  printf '%s\n' "$*" >state.new
  mv state.new state
}

sweep() {
  local process
  for process in /proc/[0-9]*; do
    if grep -qszxF "JOBC_RUN=$1" "$process/environ"; then kill -KILL "${process#/proc/}"; fi
  done 2>/dev/null
}

start() {
  if [ -e state ]; then
    echo "jobc: this run was started here before" >&2
    exit 1
  fi
  find_place || exit 1
  mkdir -p files logs
  tar --extract --gzip --file files.tar.gz --directory files || exit
  say running
  setsid bash worker.sh attend </dev/null >>output.log 2>&1 &
  echo "$!" >pid
}

end_all() {
  local pid
  for pid in "${left[@]}"; do kill -TERM "$pid"; done 2>/dev/null
  (
    sleep 30 || exit
    for pid in "${left[@]}"; do kill -KILL "$pid"; done
  ) >/dev/null 2>&1 &
}

# The processes of this machine until all have ended; the first that fails ends the others and is the machine's own.
attend() {
  local code=0 ended this stopped='' pid still index
  find_place || { say failed 1; exit 1; }
  if [ -e secrets.sh ]; then
    source ./secrets.sh
    rm -f secrets.sh
  fi
  export JOBC_RUN=$run.$$
  trap 'stopped=1; end_all' TERM
  left=()
  for ((index = 0; index < processes; index++)); do
    if [ "$tagged" = yes ]; then
      ("process_$index") &
    else
      ("process_$index") > >(sed -u "s/^/[$((node * per_node + index))] /") 2>&1 &
    fi
    left+=("$!")
  done
  if [ -n "$limit" ]; then
    (
      sleep "$limit" || exit
      touch late
      kill -TERM "$$"
    ) >/dev/null 2>&1 &
  fi
  while [ "${#left[@]}" -gt 0 ]; do
    this=0 ended=''
    wait -n -p ended "${left[@]}" || this=$?
    [ -n "${ended:-}" ] || continue
    still=()
    for pid in "${left[@]}"; do
      [ "$pid" = "$ended" ] || still+=("$pid")
    done
    left=("${still[@]}")
    if [ "$this" -ne 0 ] && [ "$code" -eq 0 ]; then
      code=$this
      [ -n "$stopped" ] || end_all
    fi
  done
  if [ -e late ]; then
    say failed 124
  elif [ -n "$stopped" ]; then
    say stopped 143
  elif [ "$code" -ne 0 ]; then
    say failed "$code"
  else
    say succeeded 0
  fi
  sweep "$JOBC_RUN"
}

tell() {
  local state
  state=$(cat state 2>/dev/null) || state='lost 1'
  if [ "$state" = running ] && ! kill -0 "$(cat pid)" 2>/dev/null; then
    sleep 1 # it may just have ended
    state=$(cat state)
    [ "$state" != running ] || state='lost 1'
  fi
  echo "jobc-worker $state"
}

stop() {
  local pid tries
  pid=$(cat pid 2>/dev/null) || exit 0
  kill -TERM "$pid" 2>/dev/null
  for ((tries = 0; tries < 40; tries++)); do
    [ "$(cat state)" = running ] && kill -0 "$pid" 2>/dev/null || exit 0
    sleep 1
  done
  sweep "$run.$pid"
}

main() {
  cd -- "$(dirname -- "${BASH_SOURCE[0]}")" || exit
  umask 077
  case $1 in
    start | attend | stop) "$1" ;;
    state) tell ;;
    logs) cat output.log ;;
    follow) tail -n +1 -f --pid="$(cat pid)" output.log ;;
  esac
}

main "$@"
exit
