"""The map of BREAD_HOME: every folder and file of the service by its name.

bread.db                            rows of users, repos, jobs and checkpoints (`store.py`)
master.key, signing.key             secrets, mode 0600 (`gateway/access`)
lock                                held by the running service
import/<adapter>/                   adapters that clients may load by name
models/<name>/                      models in Hugging Face's format: config.json, weights, tokenizer
datasets/<file>                     files of questions
incoming/<user>/<repo>/<sha256>     adapters that clients send, until their commit comes; <sha256>.part: so far
neutral/<key>/                      the base model's answers to neutral questions, one trajectory a file
jobs/<number>/                      the files of one job:
    stimuli.jsonl                   stim: one stimulus a line
    rows.jsonl                      rollout: one readable row a line, in the order of finishing
    trajectories/                   rollout: the same for training, <stimulus>-<trajectory>.safetensors
    metrics.jsonl, metrics.png      bake: one metrics row a line, and the curves
    data/<target>/                  bake: links to the trajectories of its rollouts
    rounds/<round>/                 bake: round.json and trajectories/ with the student's own answers
    state/<step>/                   bake: training state to resume from; removed when the training is done
    checkpoints/<step>/             bake: adapters
    sum/, algebra/0/                merge: the versions' weighted sum, and the same with its certificate
    archives/<step>.tar.gz          bake: checkpoints packed for download; <step>.prompts.tar.gz: with the prompts
    spec.json, trainer.log          bake: what the training process reads and prints
    engine-weights.pickle           bake: handles of the engine's weights, while a training uses them
    received/<target>.jsonl         bake of another server: the questions and answers that came with it
    wandb-id                        bake: id of its run at Weights & Biases
    result.json                     bake: written when the training is done, which is then not repeated
jobs/.import-<id>/                  an imported adapter until it has a job
"""

from pathlib import Path

from baker.names import path_of
from baker.status import Stage
from baker.storage.job import AnyJob

DATABASE = "bread.db"
MASTER_KEY = "master.key"
SIGNING_KEY = "signing.key"
LOCK = "lock"
IMPORT = "import"
MODELS = "models"
DATASETS = "datasets"
INCOMING = "incoming"
NEUTRAL = "neutral"
JOBS = "jobs"
IMPORT_PREFIX = ".import-"

STIMULI = "stimuli.jsonl"
ROWS = "rows.jsonl"
TRAJECTORIES = "trajectories"
METRICS = "metrics.jsonl"
PICTURE_SUFFIX = ".png"
DATA = "data"
ROUNDS = "rounds"
ROUND = "round.json"
STATE = "state"
CHECKPOINTS = "checkpoints"
ARCHIVES = "archives"
SUM = "sum"
ALGEBRA = "algebra"
RECEIVED = "received"
SPEC = "spec.json"
LOG = "trainer.log"
ENGINE_WEIGHTS = "engine-weights.pickle"
WANDB_ID = "wandb-id"
RESULT = "result.json"


def jobs_folder(home: Path) -> Path:
    return home / JOBS


def job_folder(home: Path, job_id: int) -> Path:
    return home / JOBS / str(job_id)


def output_file(home: Path, job: AnyJob) -> Path:
    """The file with the rows that clients page through."""
    names = {Stage.STIM: STIMULI, Stage.ROLLOUT: ROWS, Stage.BAKE: METRICS}
    return job_folder(home, job.id) / names[job.stage]


def checkpoint_folder(job_folder: Path, step: int) -> Path:
    return job_folder / CHECKPOINTS / str(step)


def archive_file(job_folder: Path, step: int, with_prompts: bool = False) -> Path:
    return job_folder / ARCHIVES / (f"{step}.prompts.tar.gz" if with_prompts else f"{step}.tar.gz")


def received_rows(job_folder: Path, target: str) -> Path:
    return path_of(job_folder / RECEIVED, target).with_name(f"{target}.jsonl")
