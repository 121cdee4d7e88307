"""The typed schema of a run's whole config, the rules across its fields, and how objects are built from it.

The only module that knows Hydra. A config is composed from `configs/`, checked here before any data is read, and
handed on as plain dataclasses. Names of choices are compared with what exists, so a typo meets its nearest name.
"""

import inspect
import itertools
import pkgutil
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass, replace
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from dir_bench.errors import UserError, nearest

CHOICES: dict[str, tuple[str, ...]] = {
    "dataset.bins.rule": ("edges", "truncate"),
    "dataset.bins.precision": ("float32", "float64"),
    "dataset.monitor": ("mae", "mse", "rmse", "gm"),
    "reweight.name": ("none", "inv", "sqrt_inv"),
    "lds.name": ("none", "gaussian", "triang", "laplace"),
    "fds.name": ("none", "gaussian", "triang", "laplace"),
    "fds.statistics": ("pass", "stream"),
    "loss.name": ("l1", "mse", "huber", "focal_l1", "focal_mse"),
    "loss.activate": ("sigmoid", "tanh"),
    "stages.name": ("none", "rrt"),
    "schedule.interval": ("epoch", "step"),
    "trainer.eval_unit": ("epoch", "step"),
    "trainer.accelerator": ("auto", "cpu", "cuda", "gpu", "mps"),
    "trainer.precision": ("32-true", "bf16-mixed", "16-mixed"),
    "semantics.lds_integers": ("truncate", "exact"),
    "semantics.lds_boundary": ("constant", "reflect"),
    "semantics.kernel_tails": ("folded", "sampled"),
    "semantics.fds_edges": ("absorb_if_present", "clamp"),
    "semantics.fds_empty": ("initial", "neighbours", "exclude"),
    "semantics.fds_lag": ("alias", "snapshot", "none"),
    "semantics.fds_guard": ("nonzero_columns", "valid_columns", "valid_rows"),
    "semantics.fds_new_bins": ("blend", "overwrite"),
}
"""Every key whose value is one of a few words, with those words."""

NUMBERLESS = (
    "paths",
    # What a run prints, and what acts through other keys only.
    "dataset.title",
    "dataset.table_metrics",
    "dataset.recipe",
    "dataset.published",
    "semantics.name",
    "dataset.source.data_dir",
    "dataset.source.cache_dir",
    "trainer.accelerator",
    "trainer.devices",
    "trainer.workers",
    "trainer.checkpoint_minutes",
    "trainer.progress",
    "trainer.threads",
    "trainer.eval_batch_size",
)
"""Keys that cannot change a run's numbers, left out of its identity."""


@dataclass
class Paths:
    data: str = "data"
    outputs: str = "outputs"


@dataclass
class Bins:
    """`TargetBins.regular`: label units; `first` is the first bin in use."""

    start: float = 0.0
    stop: float = 1.0
    width: float = 0.1
    first: int = 0
    rule: str = "edges"
    precision: str = "float64"


@dataclass
class Shots:
    """Region thresholds on training counts; lists of bins, where given, win over thresholds."""

    many_over: float = 100
    few_under: float = 20
    many: list[int] | None = None
    medium: list[int] | None = None
    few: list[int] | None = None


@dataclass
class Semantics:
    """Where the published code, its four copies and the paper differ. See `configs/semantics/`."""

    name: str = "published"
    lds_integers: str = "truncate"
    lds_boundary: str = "constant"
    kernel_tails: str = "folded"
    inv_clip: Any = None  # [low, high] or null; OmegaConf 2.3 cannot interpolate typed lists
    fds_edges: str = "clamp"
    fds_empty: str = "initial"
    fds_lag: str = "alias"
    fds_guard: str = "valid_columns"
    fds_new_bins: str = "blend"
    fds_feedback: bool = True
    fds_clip: Any = None  # [low, high] or null
    zero_error: float = 0.0
    zero_is_few: bool = True


@dataclass
class Recipe:
    """What a dataset decides for method presets whose meaning depends on it (FACTS on Tables 1–5)."""

    lds_reweight: str = "inv"
    loss: str = "l1"
    focal_loss: str = "focal_l1"
    focal_beta: float = 0.2
    huber_beta: float = 1.0
    rrt_epochs: int | None = None
    rrt_max_steps: int | None = None
    rrt_lr: float = 1e-4


@dataclass
class DatasetConfig:
    name: str = "???"
    title: str = "???"
    source: dict[str, Any] = field(default_factory=dict)
    bins: Bins = field(default_factory=Bins)
    fds_first: int = 0
    fds_last: int = 0
    regions: Shots = field(default_factory=Shots)
    target_scale: float = 1.0
    monitor: str = "mae"
    table_metrics: list[str] = field(default_factory=lambda: ["mae", "gm"])
    published: Semantics = field(default_factory=Semantics)
    recipe: Recipe = field(default_factory=Recipe)


@dataclass
class Reweight:
    name: str = "none"


@dataclass
class Kernel:
    name: str = "none"
    kernel_size: int = 5
    sigma: float = 2.0


@dataclass
class FDSConfig(Kernel):
    momentum: float | None = 0.9
    start_update: int = 0
    start_smooth: int = 1
    statistics: str = "pass"


@dataclass
class Loss:
    name: str = "l1"
    beta: float = 1.0
    gamma: float = 1.0
    activate: str = "sigmoid"


@dataclass
class Stages:
    name: str = "none"
    from_run: str | None = None
    epochs: int | None = None
    max_steps: int | None = None
    lr: float | None = None


@dataclass
class Schedule:
    source: dict[str, Any] | None = None
    interval: str = "epoch"


@dataclass
class TrainerConfig:
    epochs: int | None = None
    max_steps: int | None = None
    batch_size: int = 128
    eval_batch_size: int = 512
    precision: str = "32-true"
    accelerator: str = "auto"
    devices: int = 1
    workers: int = 0
    threads: int | None = None
    eval_every: int = 1
    eval_unit: str = "epoch"
    patience: int | None = None
    clip_norm: float | None = None
    loss_limit: float = 1e8
    bucket_by_length: bool = True
    checkpoint_minutes: float = 10.0
    progress: bool = True


@dataclass
class Config:
    seed: int = 0
    paths: Paths = field(default_factory=Paths)
    dataset: DatasetConfig = field(default_factory=DatasetConfig)
    backbone: dict[str, Any] = field(default_factory=dict)
    semantics: Semantics = field(default_factory=Semantics)
    reweight: Reweight = field(default_factory=Reweight)
    lds: Kernel = field(default_factory=Kernel)
    fds: FDSConfig = field(default_factory=FDSConfig)
    loss: Loss = field(default_factory=Loss)
    stages: Stages = field(default_factory=Stages)
    optimizer: dict[str, Any] = field(default_factory=dict)
    schedule: Schedule = field(default_factory=Schedule)
    trainer: TrainerConfig = field(default_factory=TrainerConfig)


def config_dir() -> Path:
    """Return the folder of YAML files: inside an installed wheel, else beside the package in a checkout."""
    package = Path(__file__).resolve().parent
    for folder in (package / "_configs", package.parent / "configs"):
        if (folder / "train.yaml").is_file():
            return folder
    raise UserError(f"no configs found beside {package}: the installation is incomplete, install dir-bench again")


def options(group: str) -> list[str]:
    """Return the choices of a config group, by the files that are there."""
    return sorted(path.stem for path in (config_dir() / group).glob("*.yaml"))


def groups() -> list[str]:
    """Return the names of all config groups."""
    return sorted(path.name for path in config_dir().iterdir() if path.is_dir())


def register_schema() -> None:
    """Make the dataclasses above known to Hydra as the root of `configs/train.yaml`."""
    from hydra.core.config_store import ConfigStore

    ConfigStore.instance().store(group="_schema", name="config", node=Config)


def compose(overrides: Sequence[str], extra_dir: str | None = None) -> Config:
    """Compose and check a config outside of a Hydra application; UserError in one sentence if it cannot be."""
    from hydra import compose as hydra_compose
    from hydra import initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra
    from hydra.errors import HydraException

    register_schema()
    search = [f"hydra.searchpath=[file://{Path(extra_dir).resolve()}]"] if extra_dir else []
    GlobalHydra.instance().clear()
    try:
        with initialize_config_dir(version_base="1.3", config_dir=str(config_dir())):
            composed = hydra_compose("train", [*search, *overrides])
    except (HydraException, OmegaConfBaseException) as error:
        raise UserError(explain(error)) from error
    return typed(composed)


def typed(composed: DictConfig) -> Config:
    """Turn a composed config into dataclasses, and check every rule; UserError names the key and what to do."""
    schema = OmegaConf.structured(Config)
    known = list(_dotted(OmegaConf.to_container(schema)))
    for key in _dotted(OmegaConf.to_container(composed)):
        head = key.split(".")[0]
        if head not in schema:
            raise UserError(f"unknown config key '{head}'{nearest(head, [f.name for f in fields(Config)])}")
        if not _free_form(key) and key not in known:
            raise UserError(f"unknown config key '{key}'{nearest(key, known)}")
    try:
        config = OmegaConf.to_object(OmegaConf.merge(schema, composed))
    except OmegaConfBaseException as error:
        raise UserError(explain(error)) from error
    assert isinstance(config, Config)
    check(config)
    return _without_unused(config)


def load(path: Path) -> Config:
    """Read the resolved config of a run folder."""
    try:
        node = OmegaConf.create(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise UserError(f"no run here: {path} does not exist") from error
    except (OSError, UnicodeDecodeError, YAMLError) as error:
        raise UserError(f"{path} cannot be read as a run's config: {str(error).splitlines()[0]}") from error
    if not isinstance(node, DictConfig) or "dataset" not in node:
        raise UserError(f"{path} is not the config of a run")
    return typed(node)


def to_dict(config: Config) -> dict[str, Any]:
    """Return the config as nested plain values, as it is written to `config.yaml`."""
    plain = OmegaConf.to_container(OmegaConf.structured(config), resolve=True)
    assert isinstance(plain, dict)
    return {str(key): value for key, value in plain.items()}


def resolve_target(node: Mapping[str, Any]) -> Any:
    """Return the class or function that a node's `_target_` names; UserError if there is none."""
    target = str(node.get("_target_", ""))
    try:
        return pkgutil.resolve_name(target)
    except (ImportError, AttributeError, ValueError) as error:
        raise UserError(f"`_target_: {target}` cannot be imported ({error}): check the name in its YAML") from error


def build(node: Mapping[str, Any], *args: Any, **kwargs: Any) -> Any:
    """Call a node's `_target_` with the node's other keys, and `kwargs` for what only the caller knows.

    Raises:
        UserError: If the target refuses its arguments.
    """
    target = resolve_target(node)
    try:
        return target(*args, **_arguments(node), **kwargs)
    except (TypeError, ValueError) as error:
        shown = ", ".join(f"{key}={value}" for key, value in _arguments(node).items())
        raise UserError(f"`{node['_target_']}` does not take its settings ({shown}): {error}") from error


def bind(node: Mapping[str, Any], where: str, *supplied: str) -> None:
    """Check a node's keys against the signature of its `_target_`; `supplied` are names the caller will add."""
    signature = inspect.signature(resolve_target(node))
    if any(p.kind is inspect.Parameter.VAR_KEYWORD for p in signature.parameters.values()):
        return
    for name in _arguments(node):
        if name not in signature.parameters:
            names = [p for p in signature.parameters if p not in supplied]
            raise UserError(
                f"{where} has no setting '{name}'{nearest(name, names)}; `{node['_target_']}` takes: {', '.join(names)}"
            )


def check_targets(config: Config) -> None:
    """Bind the settings of dataset, backbone, optimiser and schedule to what they configure (imports torch)."""
    bind(config.dataset.source, "dataset.source")
    bind(config.backbone, "backbone")
    bind(config.optimizer, "optimizer", "params")
    if config.schedule.source:
        bind(config.schedule.source, "schedule.source", "optimizer")


def check(config: Config) -> None:
    """Check values and the rules across fields, in an order that names the most basic mistake first."""
    for key, choices in CHOICES.items():
        value = _get(config, key)
        if value not in choices:
            raise UserError(f"{key}={value} is not a choice{nearest(str(value), choices)}: {', '.join(choices)}")
    _check_numbers(config)
    reweight, lds, fds = config.reweight.name, config.lds.name, config.fds.name
    if lds != "none" and reweight == "none":
        raise UserError(
            f"lds={lds} smooths the density that re-weighting inverts, and reweight=none uses none: add "
            f"reweight={config.dataset.recipe.lds_reweight} (the paper's VANILLA + LDS on {config.dataset.title}) "
            f"or drop lds"
        )
    if fds != "none" and not config.backbone.get("features", True):
        raise UserError(
            f"fds={fds} calibrates learned features, and the backbone {config.backbone.get('_target_')} offers none: "
            f"choose another backbone or fds=none"
        )
    rows = config.dataset.fds_last - config.dataset.fds_first + 1
    if fds != "none" and config.fds.kernel_size // 2 >= rows:
        raise UserError(f"fds.kernel_size={config.fds.kernel_size} is too wide for the {rows} bins that FDS smooths")
    _check_bins(config)
    if config.stages.name == "rrt" and reweight == "none":
        raise UserError("stages=rrt re-trains the regressor with inverse weights: add reweight=inv (method=rrt does)")
    if config.trainer.epochs is None and config.trainer.max_steps is None:
        raise UserError("the run would never end: set trainer.epochs or trainer.max_steps")


def _check_bins(config: Config) -> None:
    dataset = config.dataset
    if not (dataset.bins.width > 0 and dataset.bins.stop > dataset.bins.start):
        raise UserError(
            f"dataset.bins: stop={dataset.bins.stop} must lie above start={dataset.bins.start}, and width above 0"
        )
    count = round((dataset.bins.stop - dataset.bins.start) / dataset.bins.width)
    if config.fds.name != "none" and not 0 <= dataset.fds_first < dataset.fds_last < count:
        raise UserError(
            f"dataset.fds_first={dataset.fds_first} and dataset.fds_last={dataset.fds_last} must be two of the {count} "
            f"bins, 0 to {count - 1}, in this order"
        )
    for name in ("many", "medium", "few"):
        beyond = [b for b in getattr(dataset.regions, name) or [] if not 0 <= b < count]
        if beyond:
            raise UserError(f"dataset.regions.{name} names bin {beyond[0]}, and there are bins 0 to {count - 1} only")


def _check_clip(key: str, clip: Any) -> None:
    pair = isinstance(clip, list) and len(clip) == 2 and all(isinstance(end, (int, float)) for end in clip)
    if clip is not None and not (pair and 0 < clip[0] <= clip[1]):
        raise UserError(f"{key}={clip} must be null or two numbers [low, high] with 0 < low <= high")


def _check_numbers(config: Config) -> None:
    trainer = config.trainer
    _check_clip("semantics.inv_clip", config.semantics.inv_clip)
    _check_clip("semantics.fds_clip", config.semantics.fds_clip)
    lr = config.optimizer.get("lr")
    if isinstance(lr, bool) or not isinstance(lr, (int, float)) or not lr > 0:
        raise UserError(f"optimizer.lr={lr} must be a number above 0")
    if config.schedule.source and config.schedule.source.get("T_max", 1) is None:
        raise UserError(
            "schedule.source.T_max is null, because trainer.epochs is: set it to a number of epochs, or to "
            "trainer.max_steps with schedule.interval=step"
        )
    for stage_key in ("epochs", "max_steps"):
        value = getattr(config.stages, stage_key)
        if value is not None and value < 1:
            raise UserError(f"stages.{stage_key}={value} must be at least 1")
    for key in ("lds", "fds"):
        kernel = getattr(config, key)
        if kernel.kernel_size < 1 or kernel.kernel_size % 2 == 0:
            raise UserError(
                f"{key}.kernel_size={kernel.kernel_size} has no centre: take an odd number, "
                f"such as {max(1, kernel.kernel_size - 1)} or {max(1, kernel.kernel_size + 1)}"
            )
        if not kernel.sigma > 0:
            raise UserError(f"{key}.sigma={kernel.sigma} must be above 0 (it is measured in bins)")
    if config.fds.momentum is not None and not 0 <= config.fds.momentum <= 1:
        raise UserError(f"fds.momentum={config.fds.momentum} must lie in [0, 1], or be null for a running average")
    if config.fds.start_smooth < 0 or config.fds.start_update < 0:
        raise UserError("fds.start_update and fds.start_smooth count epochs from 0 and cannot be negative")
    if trainer.workers < 0:
        raise UserError(f"trainer.workers={trainer.workers} must not be negative (0: fetch batches when asked)")
    if config.seed < 0:
        raise UserError(f"seed={config.seed} must not be negative")
    for name in (
        "epochs",
        "max_steps",
        "batch_size",
        "eval_batch_size",
        "devices",
        "eval_every",
        "patience",
        "threads",
    ):
        value = getattr(trainer, name)
        if value is not None and value < 1:
            raise UserError(f"trainer.{name}={value} must be at least 1")
    if trainer.clip_norm is not None and not trainer.clip_norm > 0:
        raise UserError(f"trainer.clip_norm={trainer.clip_norm} must be above 0 (null: no clipping)")
    if not config.dataset.target_scale > 0:
        raise UserError(f"dataset.target_scale={config.dataset.target_scale} must be above 0")


def _without_unused(config: Config) -> Config:
    """Reset the settings of parts that are switched off, so that they cannot make one run look like two."""
    config = replace(config)
    if config.lds.name == "none":
        config.lds = Kernel()
    if config.fds.name == "none":
        config.fds = FDSConfig()
    if config.stages.name == "none":
        config.stages = Stages()
    defaults, kept = Loss(), {"huber": ("beta",), "focal_l1": ("beta", "gamma", "activate")}
    kept["focal_mse"] = kept["focal_l1"]
    used = {key: getattr(config.loss, key) for key in kept.get(config.loss.name, ())}
    config.loss = replace(defaults, name=config.loss.name, **used)
    return config


def explain(error: Exception) -> str:
    """Put a Hydra or OmegaConf error into one sentence that names the nearest valid key or choice."""
    text = str(error)
    missing = re.search(r"Could not find '([^']+)'", text)
    if missing and "/" in missing[1]:
        group, _, name = missing[1].rpartition("/")
        there = options(group)
        return f"{group}={name} does not exist{nearest(name, there)}; {group} can be: {', '.join(there)}"
    key = re.search(r"Could not override '([^']+)'", text) or re.search(r"full_key: (\S+)", text)
    if key and ("not in struct" in text or "Could not override" in text):
        known = [*groups(), *_dotted(to_dict(compose([])))]
        return f"unknown config key '{key[1]}'{nearest(key[1], known)}; `dir-bench train --cfg job` prints all keys"
    if "sweep" in text.lower() and "," in text:
        return f"{text.splitlines()[0].rstrip('.')}: a list of values is a sweep, add -m (or quote it as '[a,b]')"
    if text.startswith("Error merging override") and error.__cause__ is not None:
        text = f"{text.splitlines()[0]}: {error.__cause__}"
    first = " ".join(line.strip() for line in text.splitlines()[:2] if line.strip() and "full_key" not in line)
    return f"{key[1]}: {first}" if key else first


def sweep_jobs(overrides: Sequence[str]) -> Iterator[list[str]]:
    """Expand the comma lists of a multirun into the overrides of each job, as Hydra's basic sweeper does."""
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.core.override_parser.types import Glob
    from hydra.errors import HydraException

    try:
        parsed = OverridesParser.create().parse_overrides(list(overrides))
    except HydraException as error:
        raise UserError(explain(error)) from error
    axes = []
    for override, text in zip(parsed, overrides, strict=True):
        value = override.value()
        if isinstance(value, Glob):
            values = value.filter(options(override.key_or_group))
        elif override.is_sweep_override():
            values = list(override.sweep_string_iterator())
        else:
            axes.append([text])
            continue
        axes.append([f"{override.get_key_element()}={value}" for value in values])
    return (list(job) for job in itertools.product(*axes))


def jobs_to_check(overrides: Sequence[str], multirun: bool) -> list[list[str]]:
    """Return overrides that between them show every mistake a sweep can hold, without composing all its jobs.

    Choices of groups interact (LDS needs weights), so all their combinations are checked; each value of a plain key
    is checked once.
    """
    if not multirun:
        return [list(overrides)]
    group_names = set(groups())
    seen: set[tuple[str, ...]] = set()
    chosen = []
    for job in sweep_jobs(overrides):
        combination = tuple(item for item in job if item.split("=")[0] in group_names)
        marks = {combination, *((item,) for item in job)}
        if not marks <= seen:
            seen |= marks
            chosen.append(job)
    return chosen


def hydra_main(job: Callable[[DictConfig], None], arguments: Sequence[str]) -> None:
    """Run `job` as an ordinary Hydra application with these command-line arguments."""
    import hydra

    register_schema()
    sys.argv = ["dir-bench train", *arguments]
    hydra.main(version_base="1.3", config_path=str(config_dir()), config_name="train")(job)()


def job_overrides() -> tuple[str, ...]:
    """Return the overrides of the job that Hydra is running."""
    from hydra.core.hydra_config import HydraConfig

    return tuple(HydraConfig.get().overrides.task)


def job_name() -> str:
    """Return the running job's overrides as one string, to name it in a summary."""
    return " ".join(job_overrides()) or "(defaults)"


def _arguments(node: Mapping[str, Any]) -> dict[str, Any]:
    """Return a node's keyword arguments: all keys but the target and what the schema itself reads."""
    return {key: value for key, value in node.items() if key not in ("_target_", "features")}


def _free_form(key: str) -> bool:
    """Tell whether a dotted key lies in a node whose names are those of a `_target_`, not of the schema."""
    return key.split(".")[0] in ("backbone", "optimizer") or key.startswith(("dataset.source", "schedule.source"))


def _dotted(node: Any, prefix: str = "") -> Iterator[str]:
    for key, value in node.items():
        yield f"{prefix}{key}"
        if isinstance(value, Mapping):
            yield from _dotted(value, f"{prefix}{key}.")


def _get(node: Any, dotted: str) -> Any:
    for part in dotted.split("."):
        node = getattr(node, part) if is_dataclass(node) else node[part]
    return node
