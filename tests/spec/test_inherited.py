"""The place among others that srun, mpirun and torchrun say, each in variables of its own."""

import pytest
from jobc.spec.inherited import completed, first_host, inherited

STEP = {
    "SLURM_JOB_ID": "77",
    "SLURM_STEP_ID": "0",
    "SLURM_PROCID": "3",
    "SLURM_STEP_NUM_TASKS": "5",
    "SLURM_LOCALID": "1",
    "SLURM_NODEID": "1",
    "SLURM_STEP_TASKS_PER_NODE": "2(x2),1",
    "SLURM_STEP_NODELIST": "n[003-005]",
}
MPI = {
    "OMPI_COMM_WORLD_RANK": "1",
    "OMPI_COMM_WORLD_SIZE": "2",
    "OMPI_COMM_WORLD_LOCAL_RANK": "1",
    "OMPI_COMM_WORLD_LOCAL_SIZE": "2",
    "PMIX_NAMESPACE": "job1",
}


def test_task_of_a_slurm_step():
    """All tasks take the same place to meet without asking each other; another job takes another port."""
    found = inherited(STEP)
    assert found.by == "srun"
    port = found.variables["MASTER_PORT"]
    assert found.variables == {
        "RANK": "3", "WORLD_SIZE": "5", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2",
        "MASTER_ADDR": "n003", "MASTER_PORT": port,
    }  # fmt: skip
    other = inherited({**STEP, "SLURM_PROCID": "4", "SLURM_LOCALID": "0", "SLURM_NODEID": "2"})
    assert (other.variables["MASTER_PORT"], other.variables["LOCAL_WORLD_SIZE"]) == (port, "1")
    assert inherited({**STEP, "SLURM_JOB_ID": "78"}).variables["MASTER_PORT"] != port


def test_batch_script_is_no_task():
    """sbatch sets SLURM_PROCID for the script too, which is one process that starts the others."""
    assert inherited({"SLURM_JOB_ID": "77", "SLURM_PROCID": "0", "SLURM_NTASKS": "4"}) is None


@pytest.mark.parametrize(
    ("nodes", "first"),
    [
        ("n1", "n1"),
        ("n[1-4,7],m2", "n1"),
        ("a[003,5]b,c", "a003b"),
        ("login,n[1-2]", "login"),
        ("gpu-a-[10-12]", "gpu-a-10"),
    ],
)
def test_first_machine_of_a_node_list(nodes, first):
    """As `scontrol show hostnames` has it."""
    assert first_host(nodes) == first


def test_processes_of_mpirun():
    """On one machine they meet there; on several nothing says where."""
    assert inherited(MPI).variables["MASTER_ADDR"] == "127.0.0.1"
    assert "MASTER_ADDR" not in inherited({**MPI, "OMPI_COMM_WORLD_LOCAL_SIZE": "1"}).variables
    assert inherited({**MPI, "MASTER_ADDR": "n1"}).variables["MASTER_ADDR"] == "n1"


def test_what_is_there_already_is_not_replaced():
    """torchrun within a Slurm task has the word."""
    told = {"RANK": "0", "WORLD_SIZE": "2", "LOCAL_RANK": "0"}
    assert completed({**STEP, **told}) == {**STEP, **told}
    assert completed({"A": "b"}) == {"A": "b"}
    assert completed(MPI)["WORLD_SIZE"] == "2"
