"""Job scripts: what a user of each batch system would have written, and what our workers need, in its place."""

import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from pipeline.cluster_settings import BATCH_KINDS, ClusterSettings
from tests.test_cluster_settings import BATCH, write
from workflows import batch_jobs
from workflows.batch_jobs import MissingExtraError, job_groups, job_options, job_script
from workflows.cli import app
from workflows.cluster import worker_environment
from workflows.gpu_workers import GPUS_OF_JOB, take_own_gpu

LOGS = Path("/runs/halides/logs")
TWO_PARTITIONS = {
    "kind": "slurm",
    "queue": "normal",
    "account": "mat-42",
    "walltime": "1-00:00:00",
    "cores": 32,
    "threads_per_worker": 2,
    "memory": "64GiB",
    "adaptive": {"minimum": 1, "maximum": 20},
    "prologue": ["module load python/3.11", "source /home/me/venv/bin/activate"],
    "python": "/home/me/venv/bin/python",
    "interface": "ib0",
    "local_directory": "$TMPDIR",
    "environment": {"NUMBA_CACHE_DIR": "/scratch/me/numba cache"},
    "gpu": {
        "queue": "gpu",
        "walltime": "08:00:00",
        "memory": "32GiB",
        "cores": 16,
        "processes": 2,
        "jobs": 3,
        "directives": ["--gres=gpu:2"],
    },
}


def scripts(settings: dict[str, object], **environ: str) -> list[str]:
    cluster = ClusterSettings.model_validate(settings)
    variables = worker_environment(cluster.threads_per_worker)
    found = []
    for group in job_groups(cluster):
        options = job_options(group, cluster, name="ionsieve-x", logs=LOGS, variables=variables, environ=environ)
        found.append(job_script(group, options, "tcp://10.0.0.1:8786"))
    return found


def directives(script: str, mark: str) -> list[str]:
    return [line.removeprefix(f"{mark} ") for line in script.splitlines() if line.startswith(f"{mark} ")]


def test_two_partitions_as_a_slurm_user_expects_them() -> None:
    cpu, gpu = scripts(TWO_PARTITIONS, IONSIEVE_DATA="/project/ionsieve data")
    assert directives(cpu, "#SBATCH") == [
        "-J ionsieve-x",
        "-p normal",
        "-A mat-42",
        "-n 1",
        "--cpus-per-task=32",
        "--mem=64G",
        "-t 24:00:00",
        "-o /runs/halides/logs/ionsieve-x-%j.log",
    ]
    assert directives(gpu, "#SBATCH") == [
        "-J ionsieve-x-gpu",
        "-p gpu",
        "-A mat-42",  # as the other jobs
        "-n 1",
        "--cpus-per-task=16",
        "--mem=32G",
        "-t 08:00:00",
        "--gres=gpu:2",
        "-o /runs/halides/logs/ionsieve-x-gpu-%j.log",
    ]
    worker = cpu.splitlines()[-1]
    assert worker.startswith("/home/me/venv/bin/python -m distributed.cli.dask_worker tcp://10.0.0.1:8786 ")
    for option in (
        "--nworkers 16",
        "--nthreads 1",
        "--memory-limit 4.00GiB",
        "--interface ib0",
        "--local-directory $TMPDIR",
        "--nanny",
        "--lifetime 85800s",  # a day but ten minutes
        "--lifetime-stagger 300s",
    ):
        assert option in worker
    assert "--resources" not in worker
    assert "--resources GPU=1" in gpu.splitlines()[-1]
    assert "--nworkers 2" in gpu.splitlines()[-1]


def test_variables_stand_before_the_worker_and_after_the_modules() -> None:
    for script in scripts(TWO_PARTITIONS, IONSIEVE_DATA="/project/ionsieve data", HOME="/home/me"):
        lines = script.splitlines()
        loaded, started = lines.index("module load python/3.11"), len(lines) - 1
        wanted = {f"export {name}={value}" for name, value in worker_environment(2).items()}
        wanted |= {
            "export DASK_DISTRIBUTED__WORKER__MEMORY__PAUSE=False",
            "export IONSIEVE_DATA='/project/ionsieve data'",
            "export NUMBA_CACHE_DIR='/scratch/me/numba cache'",
        }
        assert all(loaded < lines.index(line) < started for line in wanted)
        assert "export HOME=/home/me" not in lines


@pytest.mark.parametrize("kind", BATCH_KINDS)
def test_scripts_are_shell_and_their_variables_arrive(kind: str, tmp_path: Path) -> None:
    asked = {
        "kind": kind,
        "walltime": "00:30:00",
        "memory": "8GiB",
        "jobs": 1,
        "environment": {"QUOTED": 'it\'s $HOME "here"'},
        "prologue": ["export MALLOC_TRIM_THRESHOLD_=65536"],
    }
    (script,) = scripts(asked)
    *head, worker = script.rstrip().splitlines()
    assert worker.startswith(sys.executable)
    shown = "\n".join([*head, "env"])
    done = subprocess.run(["bash", "-c", shown], capture_output=True, text=True, check=True)
    seen = dict(line.split("=", 1) for line in done.stdout.splitlines() if "=" in line)
    assert seen["QUOTED"] == 'it\'s $HOME "here"'
    assert worker_environment(1).items() <= seen.items()
    assert abs(int(seen[batch_jobs.JOB_STARTED])) > 1_700_000_000


@pytest.mark.parametrize(
    ("kind", "mark", "expected"),
    [
        ("slurm", "#SBATCH", ["-p long", "-A mat", "--cpus-per-task=8", "--mem=16G", "-t 50:00:00", "--nice=5"]),
        ("pbs", "#PBS", ["-q long", "-A mat", "-l select=1:ncpus=8:mem=16384mb", "-l walltime=50:00:00", "-j oe"]),
        ("sge", "#$", ["-q long", "-P mat", "-l h_rt=50:00:00", "-j y", "-pe smp 8", "-o /runs/halides/logs/"]),
        ("lsf", "#BSUB", ["-q long", '-P "mat"', "-n 8", '-R "span[hosts=1]"', "-W 50:00"]),
    ],
)
def test_the_same_request_to_each_batch_system(kind: str, mark: str, expected: list[str]) -> None:
    extra = {"slurm": "--nice=5", "pbs": "-m n", "sge": "-pe smp 8", "lsf": "-r"}[kind]
    asked = {
        "kind": kind,
        "queue": "long",
        "account": "mat",
        "walltime": "2-02:00:00",
        "memory": "16GiB",
        "cores": 8,
        "jobs": 2,
        "directives": [extra],
    }
    (script,) = scripts(asked)
    found = directives(script, mark)
    assert set(expected) <= set(found)
    assert extra in found
    assert "--nworkers 8" in script


def test_workers_end_before_their_job(tmp_path: Path) -> None:
    """The margin is a tenth of the walltime, from 2 to 10 minutes, or as configured; half of it is the stagger."""
    for walltime, margin, lifetime, stagger in (
        ("00:05:00", None, 180, 60),
        ("01:00:00", None, 3240, 180),
        ("7-00:00:00", None, 604_200, 300),
        ("01:00:00", 900, 2700, 450),
    ):
        asked = {"kind": "slurm", "walltime": walltime, "memory": "4GiB", "jobs": 1, "lifetime_margin": margin}
        (group,) = job_groups(ClusterSettings.model_validate(asked))
        assert (group.lifetime, group.stagger) == (lifetime, stagger)


def test_certificates_reach_the_workers() -> None:
    tls = {"ca_file": "/c/ca.pem", "cert": "/c/cert.pem", "key": "/c/key.pem"}
    (script,) = scripts({"kind": "slurm", "walltime": "01:00:00", "memory": "4GiB", "jobs": 1, "tls": tls})
    assert "--tls-ca-file /c/ca.pem --tls-cert /c/cert.pem --tls-key /c/key.pem" in script


def test_each_worker_of_a_gpu_job_takes_one_of_its_gpus() -> None:
    gpu = scripts(TWO_PARTITIONS)[1]
    assert f"export {GPUS_OF_JOB}=2" in gpu
    assert GPUS_OF_JOB not in scripts({**TWO_PARTITIONS, "gpu": {"jobs": 1}})[1]
    for worker, device in (("gpu-7-0", "3"), ("gpu-7-1", "5")):
        environ = {GPUS_OF_JOB: "2", "CUDA_VISIBLE_DEVICES": "3,5"}
        assert take_own_gpu(worker, environ) is None
        assert environ["CUDA_VISIBLE_DEVICES"] == device
        assert take_own_gpu(worker, environ) is None  # a plugin that is registered again
        assert environ["CUDA_VISIBLE_DEVICES"] == device
    without = {GPUS_OF_JOB: "2"}
    assert take_own_gpu("gpu-7-1", without) is None
    assert without["CUDA_VISIBLE_DEVICES"] == "1"
    fewer = take_own_gpu("gpu-7-1", {GPUS_OF_JOB: "2", "CUDA_VISIBLE_DEVICES": "0"})
    assert fewer is not None
    assert "sees 1 GPU (CUDA_VISIBLE_DEVICES=0) and has 2 workers" in fewer
    alone = {"CUDA_VISIBLE_DEVICES": "0,1"}
    assert take_own_gpu("gpu-7", alone) is None
    assert alone == {"CUDA_VISIBLE_DEVICES": "0,1"}


def dry_run(config: Path, *more: str) -> str:
    done = CliRunner().invoke(app, ["run", str(config), "--dry-run", *more])
    assert done.exit_code == 0, done.output
    return done.stdout


def test_dry_run_prints_the_scripts_and_starts_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))  # no sbatch, nothing
    gpu = "  gpu: {queue: gpu, jobs: 1, directives: ['--gres=gpu:1']}\n"
    text = dry_run(write(tmp_path, BATCH + gpu), "--folder", str(tmp_path / "run"))
    assert "# 4 cpu jobs of 8 workers, each handed to sbatch:" in text
    assert "# 1 gpu job of 1 worker, each handed to sbatch:" in text
    assert text.count("#!/usr/bin/env bash") == 2
    assert "tcp://<address of the scheduler>:<port>" in text
    assert f"-o {tmp_path}/run/logs/ionsieve-x-gpu-%j.log" in text
    assert not (tmp_path / "run").exists()


def test_dry_run_of_other_kinds(tmp_path: Path) -> None:
    text = dry_run(write(tmp_path, "cluster: {workers: 2, memory_limit: 3GiB}\n"))
    assert text.startswith("2 worker processes of 3GiB would be started on this machine, with\n")
    assert "export MALLOC_TOP_PAD_=268435456" in text
    address = "cluster: {kind: address, address: 'tcp://node1:8786'}\n"
    assert "those of the Dask scheduler at tcp://node1:8786" in dry_run(write(tmp_path, address))
    assert dry_run(write(tmp_path, "cluster: {kind: cuda}\n")).startswith("a worker process for each GPU would")


def test_workers_option_is_for_this_machine(tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["run", str(write(tmp_path, BATCH)), "--workers", "2"])
    assert done.exit_code == 2
    assert "not for cluster kind slurm; set cluster.jobs or cluster.adaptive" in done.stderr


def test_missing_dask_jobqueue_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "dask_jobqueue.lsf", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'ionsieve\[cluster\]'"):
        batch_jobs.job_class("slurm")


def test_ctrl_c_stays_what_it_was() -> None:
    code = (
        "import signal; from workflows.batch_jobs import job_class; job_class('slurm');"
        "assert signal.getsignal(signal.SIGINT) is signal.default_int_handler"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
