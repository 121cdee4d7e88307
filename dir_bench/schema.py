"""The typed schema of a run's whole config; plain dataclasses, nothing of Hydra. `rules` says what goes together."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

NUMBERLESS = (
    "paths",
    # What a run prints, and what acts through other keys only.
    "dataset.title",
    "dataset.label",
    "dataset.table_metrics",
    "dataset.recipe",
    "dataset.published",
    "dataset.dense",
    "dataset.no_resampling",
    "semantics.name",
    "subset.name",
    "subset.title",
    "dataset.source.data_dir",
    "dataset.source.prepared_dir",
    "dataset.source.processes",
    "dataset.source.cache_dir",
    "dataset.source.cache",
    "dataset.source.cache_limit_gb",
    "dataset.source.decode_threads",
    "trainer.cache",
    "trainer.accelerator",
    "trainer.devices",
    "trainer.workers",
    "trainer.checkpoint_minutes",
    "trainer.progress",
    "trainer.threads",
    "trainer.eval_batch_size",
    "trainer.feature_statistics",
    "trainer.figures",
)
"""Keys that cannot change a run's numbers, left out of its identity."""

BY_CONTENT = ("backbone.weights", "dataset.source.glove")
"""Keys that name a file whose content counts in an identity, wherever it lies."""

ADDED = ("head", "mixup", "subset", "resample", "reweight.beta", "dataset.source.exif_orientation")
"""Keys that came after the first runs: left out of an identity while they are as they are by default."""


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
    class_value: str = "center"
    rrt_epochs: int | None = None
    rrt_max_steps: int | None = None
    rrt_lr: float = 1e-4
    neighbours: int = 5


@dataclass
class DatasetConfig:
    name: str = "???"
    title: str = "???"
    label: str = "label"
    source: dict[str, Any] = field(default_factory=dict)
    bins: Bins = field(default_factory=Bins)
    fds_first: int = 0
    fds_last: int = 0
    regions: Shots = field(default_factory=Shots)
    target_scale: float = 1.0
    monitor: str = "mae"
    extra_errors: str = "none"
    dense: bool = False  # a target for every pixel, so no sample has a label of its own
    table_metrics: list[str] = field(default_factory=lambda: ["mae", "gm"])
    published: Semantics = field(default_factory=Semantics)
    recipe: Recipe = field(default_factory=Recipe)
    no_resampling: str | None = None  # why its samples cannot be interpolated, as the end of a sentence


@dataclass
class Peak:
    """A skewed Gaussian of a curated training set, see `datasets.subsets.mixture`; label units."""

    location: float
    scale: float
    height: float  # samples in its fullest bin
    range: Any  # [low, high)
    skewness: float = 0.0


@dataclass
class Subset:
    """Which samples make the splits, see `datasets.subsets`; ranges are [low, high) in label units."""

    name: str = "none"
    title: str | None = None  # stands in brackets behind the dataset's; null: made of `keep` and `remove`
    keep: Any = None  # list of ranges; null: all (typed lists of OmegaConf 2.3 refuse 20 for 20.0)
    remove: Any = field(default_factory=list)
    everywhere: bool = False  # `keep` and `remove` hold for validation and test too
    peaks: list[Peak] = field(default_factory=list)
    fullest: int | None = None  # training samples in the fullest bin, all others in proportion
    test_share: float | None = None  # of the training samples, drawn to be the test split
    seed: int = 0


@dataclass
class Reweight:
    name: str = "none"
    beta: float = 0.9999  # of class_balanced alone; 1 is its limit, the inverse of the count


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
class Head:
    """What the last layer gives: the target itself, or a score for each bin, and which label a bin stands for."""

    name: str = "regression"
    decode: str = "argmax"
    value: str = "center"


@dataclass
class Mixup:
    """`layers` of manifold mixup: 0 is the input, 1, 2, … are what the backbone lists as `mixable`."""

    name: str = "none"
    alpha: float = 0.2
    layers: list[int] = field(default_factory=lambda: [0, 1, 2, 3])


@dataclass
class Stages:
    name: str = "none"
    from_run: str | None = None
    epochs: int | None = None
    max_steps: int | None = None
    lr: float | None = None


@dataclass
class Resample:
    """SMOTER and SMOGN, see `methods.resample`."""

    name: str = "none"
    threshold: float = 0.8
    neighbours: int = 5
    perturbation: float = 0.1
    over: float | None = None
    under: float | None = None
    size: int = 32


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
    cache: str = "disk"
    feature_statistics: bool = True
    figures: bool = True
    channels_last: bool = False
    compile: bool = False


@dataclass
class Config:
    seed: int = 0
    paths: Paths = field(default_factory=Paths)
    dataset: DatasetConfig = field(default_factory=DatasetConfig)
    backbone: dict[str, Any] = field(default_factory=dict)
    subset: Subset = field(default_factory=Subset)
    semantics: Semantics = field(default_factory=Semantics)
    reweight: Reweight = field(default_factory=Reweight)
    lds: Kernel = field(default_factory=Kernel)
    fds: FDSConfig = field(default_factory=FDSConfig)
    loss: Loss = field(default_factory=Loss)
    head: Head = field(default_factory=Head)
    mixup: Mixup = field(default_factory=Mixup)
    stages: Stages = field(default_factory=Stages)
    resample: Resample = field(default_factory=Resample)
    optimizer: dict[str, Any] = field(default_factory=dict)
    schedule: Schedule = field(default_factory=Schedule)
    trainer: TrainerConfig = field(default_factory=TrainerConfig)


def without_unused(config: Config) -> Config:
    """Reset the settings of parts that are switched off, so that they cannot make one run look like two."""
    config = replace(config)
    if config.lds.name == "none":
        config.lds = Kernel()
    if config.fds.name == "none":
        config.fds = FDSConfig()
    for key in ("lds", "fds"):
        kernel = getattr(config, key)
        if kernel.name == "triang":  # it ends where the window does
            setattr(config, key, replace(kernel, sigma=Kernel.sigma))
    unread = _unread_semantics(config)
    config.semantics = replace(config.semantics, **{key: getattr(config.dataset.published, key) for key in unread})
    if config.reweight.name != "class_balanced":
        config.reweight = Reweight(config.reweight.name)
    if config.head.name == "regression":
        config.head = Head()
    if config.mixup.name != "manifold":
        config.mixup = Mixup() if config.mixup.name == "none" else replace(config.mixup, layers=Mixup().layers)
    if config.stages.name == "none":
        config.stages = Stages()
    if config.resample.name == "none":
        config.resample = Resample()
    elif config.resample.name == "smoter":  # it adds no noise
        config.resample = replace(config.resample, perturbation=Resample.perturbation)
    if config.loss.name in ("l1", "mse"):  # they have no settings
        config.loss = Loss(config.loss.name)
    elif config.loss.name == "huber":
        config.loss = Loss("huber", config.loss.beta)
    if not config.schedule.source:
        config.schedule = Schedule()
    return config


def _unread_semantics(config: Config) -> list[str]:
    """Return those semantics that the chosen parts do not ask for."""
    keys = [key for key in asdict(config.semantics) if key.startswith("fds_")] if config.fds.name == "none" else []
    if config.lds.name == "none":
        keys += ["lds_integers", "lds_boundary"]
    if "gaussian" not in (config.lds.name, config.fds.name):
        keys.append("kernel_tails")
    if config.reweight.name != "inv":
        keys.append("inv_clip")
    return keys


def unset(config: Mapping[str, Any]) -> tuple[str, ...]:
    """Return those of `ADDED` that a config, as nested plain values, lacks or has as they are by default."""
    defaults = asdict(Config())
    return tuple(key for key in ADDED if look_up(config, key) in (None, look_up(defaults, key)))


def look_up(node: Any, dotted: str) -> Any:
    """Return what nested plain values have under a dotted key; None if they lack it."""
    for part in dotted.split("."):
        node = node.get(part) if isinstance(node, Mapping) else None
    return node
