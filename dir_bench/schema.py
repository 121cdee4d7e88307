"""The typed schema of a run's whole config; plain dataclasses, nothing of Hydra. `rules` says what goes together."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from dir_bench.toggles import Toggle
from dir_bench.toggles.fds import FDSToggle
from dir_bench.toggles.head import HeadToggle, Loss
from dir_bench.toggles.mixup import MixupToggle
from dir_bench.toggles.resample import Resample
from dir_bench.toggles.smoothing import LDS, Reweight
from dir_bench.toggles.stages import Stages

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
    "dataset.label_range",
    "dataset.start",
    "dataset.note",
    "dataset.own",
    "semantics.name",
    "subset.name",
    "subset.title",
    "dataset.source.data_dir",
    "dataset.source.path",  # of tables: their contents count
    "dataset.source.val",
    "dataset.source.test",
    "dataset.source.prepared_dir",
    "dataset.source.processes",
    "dataset.source.cache_dir",
    "dataset.source.cache",
    "dataset.source.cache_limit_gb",
    "dataset.source.decode_threads",
    "trainer.cache",
    "trainer.samples_on",
    "trainer.accelerator",
    "trainer.workers",
    "trainer.checkpoint_minutes",
    "trainer.progress",
    "trainer.threads",
    "trainer.eval_batch_size",
    "trainer.feature_statistics",
    "trainer.figures",
)
"""Keys left out of a run's identity: they cannot change its numbers, but for last digits.

`trainer.eval_batch_size` can change those, by some 1e-6, as another processor can: a batch of another size is summed in
another order. Where two epochs validate equally well up to that, the other one may be the best.
"""

BY_CONTENT = ("backbone.weights", "dataset.source.glove")
"""Keys that name a file whose content counts in an identity, wherever it lies."""

ADDED = (
    *("head", "mixup", "subset", "subset.protocol", "subset.replace", "resample", "reweight.beta"),
    *("dataset.standardize", "dataset.source.exif_orientation", "dataset.relevance"),
    *("dataset.bins.edges", "dataset.bins.choose", "dataset.bins.number"),
    *("dataset.source.channels_last", "dataset.source.standardize_inputs"),
    *("trainer.tf32", "trainer.compile_mode", "optimizer.fused"),
    *("parts", "stages.first", "stages.freeze", "trainer.select", "trainer.devices", "trainer.batch_norm_groups"),
    *("semantics.stop_rule", "semantics.mse_selects", "semantics.fds_second_stage", "semantics.fds_subset_order"),
)
"""Keys that came after the first runs: left out of an identity while they are as they are by default.

Such semantics are left out as well where nothing reads them.
"""

BY_TARGETS = "by_targets"
"""In the place of "center" or "edge", what a class stands for: `labels.choice` says it of the training targets."""


@dataclass
class Paths:
    data: str = "data"
    outputs: str = "outputs"


@dataclass
class Bins:
    """`TargetBins.regular`, or `TargetBins` of `edges`: label units; `first` is the first bin in use.

    With `choose`, what is null is chosen from the training targets by `labels.choice`, before a run has an identity.
    """

    start: float | None = 0.0
    stop: float | None = 1.0
    width: float | None = 0.1
    first: int = 0
    rule: str = "edges"
    precision: str = "float64"
    edges: Any = None  # list of edges; in its place of `start`, `stop` and `width`
    choose: str = "none"  # width or quantiles
    number: int | None = None  # of bins to choose; null: by the rule

    @property
    def settled(self) -> bool:
        """Whether nothing is left to choose."""
        given = None not in (self.start, self.stop, self.width)
        return self.edges is not None or self.choose == "none" or (self.choose == "width" and given)

    @property
    def count(self) -> int:
        """How many there are, once settled."""
        if self.edges is not None:
            return len(self.edges) - 1
        if self.start is None or self.stop is None or self.width is None:
            raise TypeError("bins that are still to be chosen have no number")
        return round((self.stop - self.start) / self.width)

    def used(self) -> "Bins":
        """Return the same bins with what nothing reads as it is by default, or as the edges have it."""
        if self.edges is not None:
            low, high = float(self.edges[0]), float(self.edges[-1])
            mean = (high - low) / (len(self.edges) - 1)
            return replace(self, start=low, stop=high, width=mean, choose="none", number=None)
        return replace(self, choose="none", number=None) if self.settled else self


@dataclass
class Shots:
    """Region thresholds on training counts; lists of bins, where given, win over thresholds."""

    many_over: float | None = 100  # null: chosen from the training counts by `labels.choice`
    few_under: float | None = 20
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
    stop_rule: str = "no_progress"
    mse_selects: bool = False  # in a run with the loss mse, in place of the mae
    fds_second_stage: str = "afresh"
    fds_subset_order: str = "shuffled"


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
class Start:
    """Something that a published run begins with: where `key` is null, `without` is said beside a run's numbers."""

    key: str
    without: str


@dataclass
class DatasetConfig:
    name: str = "???"
    title: str = "???"
    label: str = "label"
    source: dict[str, Any] = field(default_factory=dict)
    bins: Bins = field(default_factory=Bins)
    fds_first: int = 0
    fds_last: int | None = 0  # null: the last bin
    regions: Shots = field(default_factory=Shots)
    target_scale: float = 1.0  # label units per network unit
    standardize: bool = False  # network units are standard deviations from the mean of the training targets instead
    monitor: str = "mae"
    extra_errors: str = "none"
    label_range: Any = None  # [low, high] that stand for the ages 0 and 100 in protocols; null: the range of the bins
    relevance: Any = None  # control points [[label, φ], …] of SERA's relevance; null: by the training labels
    dense: bool = False  # a target for every pixel, so no sample has a label of its own
    table_metrics: list[str] = field(default_factory=lambda: ["mae", "gm"])
    published: Semantics = field(default_factory=Semantics)
    recipe: Recipe = field(default_factory=Recipe)
    start: list[Start] = field(default_factory=list)
    own: bool = False  # somebody's own data, of which files and settings are no departures from a recipe
    note: str | None = None  # what has to be said below a table of its runs, in a sentence
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
class Protocol:
    """Splits drawn from all samples, see `datasets.protocols`; a label's place is in hundredths of `range`."""

    omega: Any = field(
        default_factory=list
    )  # [[centre, rate], …]: the training density is Σ exp(-rate (place - centre)²)
    within: Any = None  # [low, high) of all splits; null: all
    blind: Any = field(default_factory=list)  # of [low, high) that are not trained on
    range: Any = None  # [low, high] of labels, the places 0 and 100; null: the range of the bins
    per_bin: int = 50  # test samples of a bin at most
    even_test: bool = True  # bins that have fewer are not tested
    train_within_test: bool = False


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
    protocol: Protocol = field(default_factory=Protocol)
    replace: bool = False  # a protocol draws with replacement, as published
    seed: int = 0


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
    batch_norm_groups: int = 1
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
    samples_on: str = "auto"
    feature_statistics: bool = True
    figures: bool = True
    channels_last: bool = False
    compile: bool = False
    compile_mode: str = "default"
    tf32: str = "convolutions"
    select: str = "best"  # the checkpoint that is tested: best on validation, or last


@dataclass
class Config:
    seed: int = 0
    paths: Paths = field(default_factory=Paths)
    dataset: DatasetConfig = field(default_factory=DatasetConfig)
    backbone: dict[str, Any] = field(default_factory=dict)
    subset: Subset = field(default_factory=Subset)
    semantics: Semantics = field(default_factory=Semantics)
    resample: Resample = field(default_factory=Resample)
    reweight: Reweight = field(default_factory=Reweight)
    lds: LDS = field(default_factory=LDS)
    mixup: MixupToggle = field(default_factory=MixupToggle)
    fds: FDSToggle = field(default_factory=FDSToggle)
    loss: Loss = field(default_factory=Loss)
    head: HeadToggle = field(default_factory=HeadToggle)
    stages: Stages = field(default_factory=Stages)
    parts: dict[str, Any] = field(default_factory=dict)  # what else a method does in training, see `methods.part`
    optimizer: dict[str, Any] = field(default_factory=dict)
    schedule: Schedule = field(default_factory=Schedule)
    trainer: TrainerConfig = field(default_factory=TrainerConfig)


def toggle_groups(config: Config) -> list[Toggle]:
    """Return the groups that make a method, in the order in which their parts act."""
    return [value for value in vars(config).values() if isinstance(value, Toggle)]


def without_unused(config: Config) -> Config:
    """Reset the settings that nothing reads, so that they cannot make one run look like two."""
    own = {key: value.used() for key, value in vars(config).items() if isinstance(value, Toggle)}
    changes: dict[str, Any] = dict(own)
    config = replace(config, **changes, dataset=replace(config.dataset, bins=config.dataset.bins.used()))
    unread = {key: getattr(config.dataset.published, key) for key in unread_semantics(config)}
    config.semantics = replace(config.semantics, **unread)
    config.parts = {name: node for name, node in config.parts.items() if node is not None}
    if not config.schedule.source:
        config.schedule = Schedule()
    if not config.trainer.compile:
        config.trainer = replace(config.trainer, compile_mode=TrainerConfig.compile_mode)
    return config


def unread_semantics(config: Config) -> set[str]:
    """Return those semantics that nothing asks for, as the config is set."""
    groups = toggle_groups(config)
    unread = {key for group in groups for key in group.semantics}
    unread -= {key for group in groups for key in group.reads(config)}
    return unread if config.trainer.patience is not None else unread | {"stop_rule"}


def left_out(config: Config) -> tuple[str, ...]:
    """Return the keys of a config that do not stand in its identity."""
    unread = {f"semantics.{key}" for key in unread_semantics(config)}
    return (*NUMBERLESS, *unset(asdict(config)), *(key for key in ADDED if key in unread))


def unset(config: Mapping[str, Any]) -> tuple[str, ...]:
    """Return those of `ADDED` that a config, as nested plain values, lacks or has as they are by default."""
    defaults = asdict(Config())
    return tuple(key for key in ADDED if look_up(config, key) in (None, look_up(defaults, key)))


def look_up(node: Any, dotted: str) -> Any:
    """Return what a config, or its nested plain values, have under a dotted key; None if they lack it."""
    for part in dotted.split("."):
        node = node.get(part) if isinstance(node, Mapping) else getattr(node, part, None)
    return node
