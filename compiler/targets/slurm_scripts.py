"""The scripts of the target `slurm`: the batch script, what each of its tasks runs, and the question how the job is."""

from __future__ import annotations

from collections.abc import Sequence

from ...spec import ResolvedSpec
from ...spec.hardware import Gpu
from ...spec.targets.slurm import Slurm
from ..launchers.base import joined
from ..plan import Command, Name, Ref, Text
from ..quoting import node_command, script_word, shell

_KNOWN: frozenset[Name] = frozenset({"node", "head", "port", "rank"})


def batch_script(spec: ResolvedSpec, target: Slurm, options: Sequence[str], commands: Sequence[Command]) -> Text:
    """What sbatch queues: it finds the first node's address, starts the tasks, and says how they ended.

    Args:
        spec: the resolved job.
        target: the job's target.
        options: options of sbatch.
        commands: the commands of each node, one task each.
    """
    tasks = len(commands)
    bind = " --cpu-bind=none" if target.exclusive and target.cpus_per_task is None else ""
    sizes = f" --nodes={spec.job.nodes.count} --ntasks-per-node={tasks}{bind}"
    lines: list[Text] = [
        "#!/bin/bash",
        *(f"#SBATCH {option}" for option in options),
        "",
        joined("run_dir=", script_word((Ref("run_dir"),))),
        f"requeue={'yes' if target.requeue else ''}",
        'cd -- "$run_dir" || exit 72',
        f"exec >>logs/{'rank' if _by_rank(commands) else 'node'}_0.stderr.log 2>&1 </dev/null",
        _BEFORE,
        joined(f"srun --export=ALL --input=none --kill-on-bad-exit=1 --wait=0{sizes}", *_container(spec, target), " &"),
        _AFTER,
    ]
    return joined(*(part for line in lines for part in (line, "\n")))


def array_script(options: Sequence[str], elements: int, at_once: int | None) -> Text:
    """What sbatch queues for several runs: each element of the array goes on as the batch script of its run.

    Args:
        options: options of sbatch, the same for all of them.
        elements: how many runs there are.
        at_once: how many of them may run at a time.
    """
    limit = "" if at_once is None else f"%{at_once}"
    folders = (joined("  ", script_word((Ref("element", name=str(number)),))) for number in range(elements))
    lines: list[Text] = [
        "#!/bin/bash",
        *(f"#SBATCH {option}" for option in options),
        f"#SBATCH --array=0-{elements - 1}{limit}",
        "",
        "runs=(",
        *folders,
        ")",
        'exec bash -- "${runs[SLURM_ARRAY_TASK_ID]}/job.sbatch"',
    ]
    return joined(*(part for line in lines for part in (line, "\n")))


def _container(spec: ResolvedSpec, target: Slurm) -> tuple[Text, ...]:
    """The words of srun that say where the tasks' script runs."""
    task: Text = (' bash "$run_dir/task.sh" "${head:-$name}"',)
    if target.container_image is None:
        return (task,)
    image = shell(target.container_image)
    folders: tuple[Text, ...] = ((Ref("run_dir", quote=True),), (Ref("project_dir", quote=True),))
    if target.container_runtime == "pyxis":
        own = tuple(part for folder in folders for part in (folder, ":", folder, ","))
        more = ",".join(
            mount if ":/" in mount else f"{mount.split(':')[0]}:{mount}" for mount in target.container_mounts
        )
        mounts = joined(*own[: None if more else -1], shell(more) if more else "")
        return (f" --container-image={image} --container-mounts=", mounts, task)
    nv = " --nv" if isinstance(spec.job.hardware, Gpu) else ""
    binds = [joined(" --bind=", folder) for folder in folders]
    binds += [f" --bind={shell(mount)}" for mount in target.container_mounts]
    return (f" apptainer exec{nv}", *binds, f" {image}", task)


def _by_rank(commands: Sequence[Command]) -> bool:
    """Whether each process writes to files of its rank, rather than to those of its node with the rank in each line."""
    return commands[0].output == "capture"


def task_script(spec: ResolvedSpec, commands: Sequence[Command]) -> Text:
    """What each task runs: the command of its place on the node, which is asked to save and to end by a signal URG.

    Other processes of the task ignore that signal, as a loader's workers, which a SIGTERM would end too early.
    """
    texts = [text for command in commands for text in (*command.argv, *command.env.values())]
    used = {part.ref for text in texts if not isinstance(text, str) for part in text if isinstance(part, Ref)}
    per_node = spec.job.processes_per_node
    tasks: list[Text] = []
    for number, command in enumerate(commands):
        words = (joined("  ", line) for line in node_command(command, _KNOWN))
        tasks += [f"task_{number}() {{", *words, "}"]
    log = f"rank_$((node * {per_node} + SLURM_LOCALID))" if _by_rank(commands) else "node_$node"
    lines: list[Text] = [
        "#!/bin/bash",
        joined("run_dir=", script_word((Ref("run_dir"),))),
        "node=$SLURM_NODEID",
        *((f"per_node={per_node}",) if "rank" in used else ()),
        *(("head=$1",) if "head" in used else ()),
        *(("port=$((10000 + SLURM_JOB_ID % 20000))",) if "port" in used else ()),
        "",
        *tasks,
        "",
        f'log="$run_dir/logs/{log}"',
        _TASK,
    ]
    return joined(*(part for line in lines for part in (line, "\n")))


_BEFORE = """\
rm -f ended failed interrupted

ended() {
  printf '%s\\n' "$*" >ended.new && mv -f ended.new ended
}

# The number of one element of an array may be that of the whole array, too.
job=$SLURM_JOB_ID
if [ -n "${SLURM_ARRAY_JOB_ID-}" ]; then job=${SLURM_ARRAY_JOB_ID}_$SLURM_ARRAY_TASK_ID; fi

# The processes are asked to save and to end, again where a task was not yet there to hear it.
ask() {
  signalled=yes
  if [ -n "$asked" ]; then return; fi
  asked=$1
  {
    for _ in 1 2 3 4 5 6 7 8 9; do
      scancel --signal=URG "$job.0" 2>/dev/null
      sleep 5
    done
    if [ "$asked" = stop ]; then scancel "$job"; fi
  } &
  asking=$!
}
asked=
trap 'ask stop' TERM
trap 'ask limit' USR1

name=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
head=$(scontrol show node "$name" --oneliner | sed -n 's/.* NodeAddr=\\([^ ]*\\).*/\\1/p')
# srun takes no number of CPUs from sbatch since Slurm 22.05.
if [ -n "${SLURM_CPUS_PER_TASK-}" ]; then export SRUN_CPUS_PER_TASK=$SLURM_CPUS_PER_TASK; fi"""

_AFTER = """\
step=$!
# A signal that comes before this script listens is lost; the file is not.
if [ -e stop ]; then ask stop; fi
while
  signalled=
  wait "$step"
  code=$?
  [ -n "$signalled" ]
do :; done
if [ -n "$asked" ]; then kill "$asking"; fi
if [ "$code" = 0 ] && [ -e interrupted ]; then code=143; fi
if [ "$code" != 0 ] && [ -e failed ]; then code=$(<failed); fi

if [ "$code" = 0 ]; then
  ended COMPLETED 0
elif [ "$asked" = stop ]; then
  ended CANCELLED 143
  scancel "$job"
elif [ "$asked" = limit ] && [ -n "$requeue" ]; then
  scontrol requeue "$job" && sleep 600
  ended FAILED 1
elif [ "$asked" = limit ]; then
  code=124
  ended FAILED 124
else
  ended FAILED "$code"
fi
exit "$code\""""

_TASK = """\
exec >>"$log.stdout.log" 2>>"$log.stderr.log"
asked=
ask() {
  signalled=yes
  if [ -z "$asked" ] && [ -n "$child" ]; then
    asked=yes
    kill -TERM "$child"
  fi
}
child=
trap ask URG
trap signalled=yes TERM
"task_$SLURM_LOCALID" </dev/null &
child=$!
while
  signalled=
  wait "$child"
  code=$?
  [ -n "$signalled" ]
do :; done
# A task that was asked does not end the others: they may still be saving.
if [ -n "$asked" ] && [ "$code" != 0 ]; then
  : >"$run_dir/interrupted"
  code=0
fi
# The first one counts: those that it ends have codes of their own.
if [ "$code" != 0 ]; then (set -C && echo "$code" >"$run_dir/failed") 2>/dev/null; fi
exit "$code\""""

#: What says how a job is: slurmctld, which forgets jobs after some minutes, accounting, or how the batch script ended.
STATUS = """\
#!/bin/bash
cd -- "${0%/*}" || exit
word=$(squeue --noheader --states=all --jobs="$1" --format=%T | head -n 1)
if [ -z "$word" ]; then
  word=$(sacct --allocations --noheader --parsable2 --format=State --jobs="$1" | head -n 1)
fi
case ${word%% *} in
  "") cat ended ;;
  FAILED) cat ended 2>/dev/null || echo FAILED ;;
  TIMEOUT) echo TIMEOUT 124 ;;
  OUT_OF_MEMORY) echo OUT_OF_MEMORY 137 ;;
  PREEMPTED) echo PREEMPTED 143 ;;
  *) echo "${word%% *}" ;;
esac
"""

#: A job that runs is asked to save before it ends; one that has ended is left alone.
STOP = """\
#!/bin/bash
cd -- "${0%/*}" || exit
word=$(squeue --noheader --states=all --jobs="$1" --format=%T 2>&1)
case $word in
  RUNNING) : >stop && scancel --batch --signal=TERM "$1" ;;
  PENDING | CONFIGURING | SUSPENDED | STOPPED | REQUEUE* | SPECIAL_EXIT) scancel "$1" ;;
  *"Invalid job id"* | [A-Z]*[A-Z]) ;;
  *)
    echo "$word" >&2
    exit 1
    ;;
esac
"""
