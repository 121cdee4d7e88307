"""FDS against worked cases, and against the plain loop over labels."""

import copy
import io
import itertools
import pickle
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dir_bench.labels.bins import TargetBins
from dir_bench.labels.density import kernel_window
from dir_bench.methods.fds import FDS

OFFICIAL = (
    "running_mean", "running_var", "running_mean_last_epoch", "running_var_last_epoch",
    "smoothed_mean_last_epoch", "smoothed_var_last_epoch", "num_samples_tracked", "epoch",
)  # fmt: skip
AGES = {
    "edges": "absorb_if_present", "empty": "initial", "lag": "alias", "guard": "nonzero_columns",
    "new_bins": "blend", "groups": "labels",
}  # fmt: skip
STSB = {
    "edges": "clamp", "empty": "neighbours", "lag": "alias", "guard": "valid_columns", "new_bins": "blend",
    "clip": (0.5, 2.0),
}  # fmt: skip
NYUD2 = {
    "edges": "clamp", "empty": "initial", "lag": "snapshot", "guard": "valid_rows", "new_bins": "blend",
    "clip": (0.2, 5.0),
}  # fmt: skip
PAPER = {"edges": "clamp", "empty": "exclude", "lag": "none", "guard": "valid_columns", "new_bins": "overwrite"}
VARIANTS = {"ages": AGES, "stsb": STSB, "nyud2": NYUD2, "paper": PAPER}


class Loop:
    """FDS by loops over bins in NumPy, float64, integer labels: what the vectorised one has to equal."""

    def __init__(self, rows, dim, first, *, window, momentum, clip, edges, empty, lag, guard, new_bins, **_):
        self.rows, self.first, self.window, self.momentum, self.clip = rows, first, window, momentum, clip
        self.edges, self.empty, self.lag, self.guard, self.new_bins = edges, empty, lag, guard, new_bins
        self.running = [np.zeros((rows, dim)), np.ones((rows, dim))]
        self.last = [np.zeros((rows, dim)), np.ones((rows, dim))]
        self.smoothed = [np.zeros((rows, dim)), np.ones((rows, dim))]
        self.tracked, self.had = np.zeros(rows), np.zeros(rows, bool)

    def members(self, labels):
        """Yield each row with the mask of its samples."""
        row = labels - self.first
        if self.edges == "clamp":
            row = row.clip(0, self.rows - 1)
        else:
            row = np.where((row < 0) & (row == 0).any(), 0, row)
            row = np.where((row >= self.rows) & (row == self.rows - 1).any(), self.rows - 1, row)
        for r in range(self.rows):
            if (row == r).any():
                yield r, row == r

    def update(self, x, labels, replace):
        seen = np.zeros(self.rows, bool)
        for r, mask in self.members(labels):
            size, seen[r] = mask.sum(), True
            new = self.tracked[r] == 0
            self.tracked[r] += size
            old = 1 - size / self.tracked[r] if self.momentum is None else self.momentum
            old = 0 if replace or (new and self.new_bins == "overwrite") else old
            current = x[mask].mean(0), x[mask].var(0, ddof=min(1, size - 1))
            for table, value in zip(self.running, current, strict=True):
                table[r] = (1 - old) * value + old * table[r]
        if self.empty == "neighbours":
            for table, r in itertools.product(self.running, np.flatnonzero(~seen)):
                ends = {0: (1, 1), self.rows - 1: (r - 1, r - 1)}
                before, after = ends.get(r, (r - 1, r + 1))
                table[r] = (table[before] + table[after]) / 2

    def publish(self):
        half = len(self.window) // 2
        self.had = self.tracked > 0
        for kind, table in enumerate(self.running):
            self.last[kind] = table if self.lag == "alias" else table.copy()
            self.smoothed[kind] = np.full_like(table, float(kind))
            for r in range(self.rows):
                source = [abs(i) for i in range(r - half, r + half + 1)]
                source = [2 * (self.rows - 1) - i if i >= self.rows else i for i in source]
                weight = self.window * (self.had[source] if self.empty == "exclude" else 1)
                if weight.sum():
                    self.smoothed[kind][r] = weight @ table[source] / weight.sum()

    def end_epoch(self, x, labels, epoch):
        steps = [lambda: self.update(x, labels, epoch == 0), self.publish]
        if self.lag == "none":
            steps[0](), steps[1]()
        else:
            _ = steps[1]() if epoch else None
            steps[0]()

    def smooth(self, x, labels):
        x = x.copy()
        for r, mask in self.members(labels):
            m1, v1, m2, v2 = self.last[0][r], self.last[1][r], self.smoothed[0][r], self.smoothed[1][r]
            valid = v1 != 0 if self.guard == "nonzero_columns" else (v1 > 0) & (v2 >= 0)
            if self.guard == "valid_rows":
                valid = np.full_like(valid, valid.all())
            if v1.sum() < 1e-10 or (self.empty == "exclude" and not self.had[r]):
                continue
            factor = np.sqrt(np.clip(v2[valid] / v1[valid], *self.clip))
            x[np.ix_(mask, valid)] = (x[np.ix_(mask, valid)] - m1[valid]) * factor + m2[valid]
        return x


def random_epoch(rng, rows, first, dim, shape):
    """Return features and integer labels, some beyond the ends, some bins empty, some columns constant."""
    labels = first + rng.choice(np.delete(np.arange(-2, rows + 2), rng.integers(0, rows, 3)), shape)
    x = rng.normal(labels[..., None] * 0.3, 1 + (labels[..., None] % 3), (*shape, dim))
    x[labels % 4 == 0, 0] = 2.5
    return x.astype(np.float32).astype(np.float64), labels


def as_tensors(x, labels):
    """Return [N, D] as it is and [B, H, W, D] as [B, D, H, W], labels with a dimension of 1."""
    x, labels = torch.from_numpy(x).float(), torch.from_numpy(labels).float()
    return (x, labels[:, None]) if x.dim() == 2 else (x.movedim(-1, 1).contiguous(), labels[:, None])


@settings(deadline=None, max_examples=60)
@given(
    edges=st.sampled_from(["clamp", "absorb_if_present"]),
    empty=st.sampled_from(["initial", "neighbours", "exclude"]),
    lag=st.sampled_from(["alias", "snapshot", "none"]),
    guard=st.sampled_from(["nonzero_columns", "valid_columns", "valid_rows"]),
    new_bins=st.sampled_from(["blend", "overwrite"]),
    momentum=st.sampled_from([0.9, 0.3, None]),
    dense=st.booleans(),
    seed=st.integers(0, 10**6),
)
def test_every_choice_equals_the_loop_over_labels(dense, seed, momentum, **choices) -> None:
    rng, rows, first, dim = np.random.default_rng(seed), 12, 3, 4
    common = {"momentum": momentum, "clip": (0.3, 4.0), **choices}
    fds = FDS(dim, first=first, last=first + rows - 1, kernel="triang", kernel_size=5, **common)
    loop = Loop(rows, dim, first, window=kernel_window("triang", 5, normalize="sum"), **common)
    shape = (2, 5, 4) if dense else (40,)
    for epoch in range(4):
        x, labels = random_epoch(rng, rows, first, dim, shape)
        features, targets = as_tensors(x, labels)
        moments = fds.new_moments()
        for batch in (slice(0, 1), slice(1, None)):
            moments.add(features[batch], targets[batch])
        fds.end_epoch(moments, epoch)
        loop.end_epoch(x.reshape(-1, dim), labels.reshape(-1), epoch)
        for kind, name in enumerate(("mean", "var")):
            for state, table in (("running", loop.running), ("smoothed", loop.smoothed)):
                got = getattr(fds, f"{state}_{name}{'_last_epoch' * (state == 'smoothed')}")
                np.testing.assert_allclose(got, table[kind], rtol=2e-5, atol=2e-5)
        np.testing.assert_array_equal(fds.num_samples_tracked, loop.tracked)
        smoothed = fds.smooth(features, targets, epoch + 1)
        expected = loop.smooth(x.reshape(-1, dim), labels.reshape(-1)).reshape(x.shape)
        expected = np.moveaxis(expected, -1, 1) if dense else expected
        np.testing.assert_allclose(smoothed, expected, rtol=1e-4, atol=1e-4)


def one_column(lag: str, **changed) -> FDS:
    """Return an FDS of three bins, one feature, window (1/4, 1/2, 1/4)."""
    settings = {**PAPER, "lag": lag, "new_bins": "blend", "empty": "initial", **changed}
    return FDS(1, first=0, last=2, kernel="triang", kernel_size=3, momentum=0.5, **settings)


def pairs(*means: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Return two samples a bin, mean - 1 and mean + 1: unbiased variance 2."""
    values = torch.tensor([[m + d] for m in means for d in (-1.0, 1.0)])
    return values, torch.arange(len(means)).repeat_interleave(2).float()


def published_epochs(fds: FDS) -> FDS:
    """Epoch 0 has means 0, 4, 8; epoch 1 has 10, 14, 18; so the running ones are 5, 9, 13 after epoch 1."""
    for epoch, means in enumerate([(0.0, 4.0, 8.0), (10.0, 14.0, 18.0)]):
        moments = fds.new_moments()
        moments.add(*pairs(*means))
        fds.end_epoch(moments, epoch)
    return fds


@pytest.mark.parametrize(
    ("lag", "last", "smoothed", "out"),
    [
        # Smoothed over mirrored bins: (0, 4, 8) -> 1/4 * 4 + 1/2 * 0 + 1/4 * 4 = 2, then 4, then 6.
        ("alias", (5.0, 9.0, 13.0), (2.0, 4.0, 6.0), 0.0 - 5.0 + 2.0),
        ("snapshot", (0.0, 4.0, 8.0), (2.0, 4.0, 6.0), 0.0 - 0.0 + 2.0),
        ("none", (5.0, 9.0, 13.0), (7.0, 9.0, 11.0), 0.0 - 5.0 + 7.0),
    ],
)
def test_lag_says_which_epochs_meet(lag, last, smoothed, out) -> None:
    fds = published_epochs(one_column(lag))
    assert fds.running_mean_last_epoch.squeeze(1).tolist() == pytest.approx(last)
    assert fds.smoothed_mean_last_epoch.squeeze(1).tolist() == pytest.approx(smoothed)
    assert fds.smooth(torch.zeros(1, 1), torch.zeros(1), 2).item() == pytest.approx(out)


@pytest.mark.parametrize(("lag", "first_epoch"), [("alias", 2), ("snapshot", 2), ("none", 1)])
def test_first_epoch_with_an_effect(lag, first_epoch) -> None:
    fds = one_column(lag)
    for epoch in range(4):
        features, labels = pairs(0.0, 4.0, 8.0)
        assert (fds.smooth(features, labels, epoch) != features).any() == (epoch >= first_epoch)
        moments = fds.new_moments()
        moments.add(features, labels)
        fds.end_epoch(moments, epoch)


@pytest.mark.parametrize("lag", ["alias", "none"])
def test_nothing_counts_before_start_update(lag) -> None:
    fds = one_column(lag, start_update=2)
    for epoch in range(2):
        moments = fds.new_moments()
        moments.add(*pairs(1.0, 2.0, 3.0))
        fds.end_epoch(moments, epoch)
    assert fds.num_samples_tracked.sum() == 0
    assert fds.epoch.item() == 2


def test_before_start_smooth_the_same_tensor_comes_back() -> None:
    fds, (features, labels) = published_epochs(one_column("none", start_smooth=3)), pairs(1.0, 2.0, 3.0)
    assert fds.smooth(features, labels, 2) is features
    assert fds.smooth(features, labels, 3) is not features


def test_evaluation_never_smooths() -> None:
    fds, (features, labels) = published_epochs(one_column("none")), pairs(1.0, 2.0, 3.0)
    torch.testing.assert_close(fds(features, labels, 2), fds.smooth(features, labels, 2))
    assert fds.eval()(features, labels, 2) is features


def test_excluded_bins_neither_smooth_nor_are_smoothed() -> None:
    # Bin 1 never has samples. Bin 0: window over mirrored bins (1, 0, 1) leaves bin 0 alone; so does bin 2.
    fds = one_column("none", empty="exclude")
    moments = fds.new_moments()
    moments.add(*(part[[0, 1, 4, 5]] for part in pairs(3.0, 0.0, 9.0)))
    fds.end_epoch(moments, 0)
    assert fds.smoothed_mean_last_epoch.squeeze(1).tolist() == pytest.approx([3.0, 6.0, 9.0])
    features = torch.tensor([[1.0], [1.0], [1.0]])
    torch.testing.assert_close(fds.smooth(features, torch.arange(3), 1), features)


@pytest.mark.parametrize(("new_bins", "mean"), [("blend", 5.0), ("overwrite", 10.0)])
def test_a_bin_met_later(new_bins, mean) -> None:
    fds = one_column("none", new_bins=new_bins)
    fds.update_running_stats(*pairs(1.0), 0)
    fds.update_running_stats(torch.tensor([[9.0], [11.0]]), torch.tensor([2.0, 2.0]), 1)
    assert fds.running_mean.squeeze(1).tolist() == [1.0, 0.0, mean]  # momentum 0.5, initial mean 0


@pytest.mark.parametrize(("groups", "mean"), [("labels", 1.75), ("bins", 2.0)])
def test_fractional_labels_update_their_bin_in_turn(groups, mean) -> None:
    # Bin 1 holds 0 at first. In turn: 1.0 -> 0.5 * 1 + 0.5 * 0 = 0.5; 1.5 -> 0.5 * 3 + 0.5 * 0.5 = 1.75.
    # As one bin: 0.5 * mean(1, 3, 8) + 0.5 * 0 = 2; the last sample counts with neither edge present.
    fds = FDS(1, first=0, last=2, kernel_size=3, momentum=0.5, **{**AGES, "groups": groups})
    fds.update_running_stats(torch.tensor([[0.0]]), torch.tensor([1.0]), 0)
    features, labels = torch.tensor([[1.0], [3.0], [7.0]]), torch.tensor([1.0, 1.5, 2.5])
    if groups == "bins":
        features[2], labels[2] = 8.0, 1.25
    fds.update_running_stats(features, labels, 1)
    assert fds.running_mean.squeeze(1).tolist() == [0.0, mean, 0.0]
    assert fds.num_samples_tracked.tolist() == [0, 1 + (2 if groups == "labels" else 3), 0]


def test_integer_labels_group_alike() -> None:
    rng = np.random.default_rng(0)
    features, labels = torch.randn(80, 3), torch.from_numpy(rng.integers(-2, 12, 80)).float()
    by = {groups: FDS(3, first=0, last=9, **{**AGES, "groups": groups}) for groups in ("bins", "labels")}
    for fds, epoch in itertools.product(by.values(), range(3)):
        fds.update_running_stats(features * (epoch + 1), labels, epoch)
    for name in ("running_mean", "running_var", "num_samples_tracked"):
        torch.testing.assert_close(getattr(by["bins"], name), getattr(by["labels"], name))


@pytest.mark.parametrize("variant", VARIANTS.values(), ids=VARIANTS)
def test_bins_of_equal_statistics_change_nothing(variant) -> None:
    fds = FDS(2, first=0, last=4, **variant)
    values = torch.tensor([[1.0, 5.0], [3.0, 9.0], [2.0, 1.0]])
    for epoch in range(4):
        features, labels = values.repeat(5, 1), torch.arange(5.0).repeat_interleave(3)
        torch.testing.assert_close(fds.smooth(features, labels, epoch), features)
        fds.update_last_epoch_stats(epoch)
        fds.update_running_stats(features, labels, epoch)


@pytest.mark.parametrize("variant", VARIANTS.values(), ids=VARIANTS)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_features_keep_their_type_and_the_input_its_values(variant, dtype) -> None:
    fds = trained(variant)
    features, labels = torch.randn(20, 3).to(dtype), torch.arange(20.0) - 5
    before = features.clone()
    smoothed = fds.smooth(features, labels, 9)
    assert smoothed.dtype == dtype
    assert torch.equal(features, before)
    assert (smoothed != features).any()
    exact = fds.smooth(features.double(), labels, 9)
    tolerance = {torch.float16: 1e-2, torch.bfloat16: 6e-2}.get(dtype, 1e-4)
    torch.testing.assert_close(smoothed.double(), exact, rtol=tolerance, atol=tolerance)


def test_autocast_leaves_the_calibration_alone() -> None:
    fds, features, labels = trained(AGES), torch.randn(20, 3), torch.arange(20.0) % 10
    with torch.autocast("cpu", torch.bfloat16):
        smoothed = fds.smooth(features, labels, 9)
        run_epoch(fds, 3)
    assert torch.equal(smoothed, trained(AGES).smooth(features, labels, 9))
    torch.testing.assert_close(fds.running_mean, trained(AGES, epochs=4).running_mean)


def trained(variant, epochs: int = 3, device: str = "cpu", bins: TargetBins | None = None) -> FDS:
    fds = FDS(3, first=0, last=9, bins=bins, **variant).to(device)
    for epoch in range(epochs):
        run_epoch(fds, epoch)
    return fds


def run_epoch(fds: FDS, epoch: int) -> torch.Tensor:
    """Smooth a batch, then end an epoch, on data that go by the epoch; return what was smoothed."""
    rng, device = np.random.default_rng(epoch), fds.running_mean.device
    x, labels = random_epoch(rng, 10, 0, 3, (50,))
    features, targets = (tensor.to(device) for tensor in as_tensors(x, labels))
    smoothed = fds.smooth(features, targets, epoch)
    moments = fds.new_moments()
    moments.add(features, targets)
    fds.end_epoch(moments, epoch)
    return smoothed


@pytest.mark.parametrize("variant", VARIANTS.values(), ids=VARIANTS)
def test_gradient_is_that_of_a_constant_calibration(variant) -> None:
    fds = trained(variant)
    for shape in [(6, 3), (2, 3, 2, 3)]:
        features = torch.randn(shape, dtype=torch.float64, requires_grad=True)
        labels = torch.randint(-2, 12, (shape[0], 1, *shape[2:])).float()
        assert torch.autograd.gradcheck(lambda x, y=labels: fds.smooth(x, y, 9), (features,))


@pytest.mark.parametrize("variant", VARIANTS.values(), ids=VARIANTS)
@pytest.mark.parametrize("cut", range(1, 5))
def test_a_restored_state_goes_on_with_the_same_numbers(variant, cut) -> None:
    straight, saved = trained(variant, cut), io.BytesIO()
    torch.save(straight.state_dict(), saved)
    saved.seek(0)
    restored = FDS(3, first=0, last=9, **variant)
    restored.load_state_dict(torch.load(saved, weights_only=True))
    for epoch in range(cut, cut + 3):
        assert torch.equal(run_epoch(straight, epoch), run_epoch(restored, epoch))
    for name, value in straight.state_dict().items():
        assert torch.equal(value, restored.state_dict()[name]), name


@pytest.mark.parametrize("make", [copy.deepcopy, lambda fds: pickle.loads(pickle.dumps(fds))])
def test_copies_and_pickles_go_on_alone(make) -> None:
    fds = trained(AGES, bins=TargetBins.regular(0, 10, 1))
    twin = make(fds)
    assert torch.equal(run_epoch(fds, 3), run_epoch(twin, 3))
    run_epoch(fds, 4)
    assert not torch.equal(fds.running_mean, twin.running_mean)


@pytest.mark.parametrize("variant", VARIANTS.values(), ids=VARIANTS)
def test_a_published_checkpoint_loads_by_its_names(variant) -> None:
    fds = trained(variant)
    official = {f"FDS.{name}": value for name, value in fds.state_dict().items() if name in OFFICIAL}
    assert len(official) == len(OFFICIAL)
    network = torch.nn.ModuleDict({"FDS": FDS(3, first=0, last=9, **variant)})
    network.load_state_dict(official, strict=True)
    assert set(official) == {f"FDS.{name}" for name in OFFICIAL}, "the caller's dict was changed"
    features, labels = torch.randn(30, 3), torch.arange(30.0) % 10
    torch.testing.assert_close(
        network["FDS"].smooth(features, labels, 9), fds.smooth(features, labels, 9), rtol=0, atol=0
    )
    run_epoch(fds, 3), run_epoch(network["FDS"], 3)  # untied on loading, tied again by the next epoch
    for name in OFFICIAL:
        assert torch.equal(getattr(fds, name), getattr(network["FDS"], name)), name


def test_statistics_stay_float32_in_a_half_precision_network() -> None:
    fds = trained(AGES)
    mean, scale = fds.running_mean.clone(), fds._scale.clone()
    fds.to(torch.bfloat16)
    assert torch.equal(fds.running_mean, mean)
    assert torch.equal(fds._scale, scale)
    assert fds.double().running_mean.dtype == torch.float64


@pytest.mark.parametrize("variant", VARIANTS.values(), ids=VARIANTS)
@pytest.mark.parametrize("labels", [[4.0], [4.0] * 6, [-3.0] * 4, [50.0] * 4, [9.0], [torch.nan, 4.0]], ids=str)
def test_one_sample_or_one_label_is_never_nan(variant, labels) -> None:
    fds = FDS(3, first=0, last=9, **variant)
    labels = torch.tensor(labels)
    for epoch in range(4):
        features = torch.randn(len(labels), 3)
        assert torch.isfinite(fds.smooth(features, labels, epoch)).all()
        moments = fds.new_moments()
        moments.add(features, labels)
        fds.end_epoch(moments, epoch)
    assert all(torch.isfinite(value).all() for value in fds.state_dict().values())


@pytest.mark.parametrize("variant", VARIANTS.values(), ids=VARIANTS)
def test_an_epoch_without_samples_is_never_nan(variant) -> None:
    fds = FDS(3, first=0, last=9, **variant)
    for epoch in range(3):
        fds.end_epoch(fds.new_moments(), epoch)
        fds.update_running_stats(torch.zeros(0, 3), torch.zeros(0), epoch + 1)
    assert all(torch.isfinite(value).all() for value in fds.state_dict().values())
    assert fds.smooth(torch.zeros(0, 3), torch.zeros(0), 9).shape == (0, 3)


def test_constant_features_of_a_bin_come_back_unchanged() -> None:
    fds = FDS(2, first=0, last=3, kernel_size=3, **AGES)
    features, labels = torch.randn(40, 2), torch.arange(40.0) % 4
    features[labels == 2] = 0.1
    for epoch in range(3):
        fds.update_last_epoch_stats(epoch)
        fds.update_running_stats(features, labels, epoch)
    assert (fds.running_var[2] == 0).all()
    smoothed = fds.smooth(features, labels, 3)
    assert torch.equal(smoothed[labels == 2], features[labels == 2])
    assert (smoothed[labels == 1] != features[labels == 1]).all()


def test_reset_forgets_all_but_the_epoch() -> None:
    fds, fresh = trained(AGES), FDS(3, first=0, last=9, **AGES)
    fds.reset()
    for name in OFFICIAL:
        expected = torch.tensor([2.0]) if name == "epoch" else getattr(fresh, name)
        assert torch.equal(getattr(fds, name), expected), name
    features = torch.randn(10, 3)
    assert torch.equal(fds.smooth(features, torch.arange(10.0), 5), features)


def test_dense_features_keep_their_memory_format() -> None:
    fds, labels = trained(NYUD2), torch.rand(2, 1, 4, 5) * 10
    for memory_format in (torch.contiguous_format, torch.channels_last):
        features = torch.randn(2, 3, 4, 5).contiguous(memory_format=memory_format)
        assert fds.smooth(features, labels, 9).is_contiguous(memory_format=memory_format)


def test_bins_turn_labels_into_rows() -> None:
    # Depths 0.75 and 9.95 m lie in bins 7 and 99, rows 0 and 92; 0.2 m joins row 0.
    fds = FDS(1, bins=TargetBins.regular(0, 10, 0.1, first=7, rule="truncate", precision="float32"))
    fds.update_running_stats(torch.ones(3, 1), torch.tensor([0.75, 9.95, 0.2]), 0)
    assert len(fds.running_mean) == 93
    assert fds.num_samples_tracked.nonzero().squeeze(1).tolist() == [0, 92]
    assert fds.num_samples_tracked[0] == 2


def test_negative_and_real_labels_have_bins_of_their_own() -> None:
    fds = FDS(1, bins=TargetBins.regular(-1.0, 1.0, 0.25))
    fds.update_running_stats(torch.ones(4, 1), torch.tensor([-0.9, -0.1, 0.1, 7.0]), 0)
    assert fds.num_samples_tracked.tolist() == [1, 0, 0, 1, 1, 0, 0, 1]


def test_feedback_is_told_to_the_trainer() -> None:
    assert FDS(1, first=0, last=9, feedback=True).collects_smoothed
    assert not FDS(1, first=0, last=9).collects_smoothed


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"edges": "clam"}, r"edges must be one of .* \(did you mean 'clamp'"),
        ({"empty": "excluded"}, "did you mean 'exclude'"),
        ({"lag": "no"}, "lag must be one of"),
        ({"guard": "valid_row"}, "did you mean 'valid_rows'"),
        ({"new_bins": "keep"}, "new_bins must be one of"),
        ({"groups": "label"}, "did you mean 'labels'"),
        ({"kernel": "gausian"}, "did you mean 'gaussian'"),
        ({"kernel_size": 4}, "kernel_size must be an odd number"),
        ({"kernel_size": 21}, "needs at least 11 bins, there are 10"),
        ({"momentum": 1.5}, "momentum must be between 0 and 1"),
        ({"clip": (2.0, 1.0)}, "clip must be"),
        ({"first": None}, "FDS needs bins"),
    ],
)
def test_a_wrong_setting_is_refused(wrong, message) -> None:
    with pytest.raises(ValueError, match=message):
        FDS(3, **{"first": 0, "last": 9, **wrong})


def test_features_of_another_width_are_refused() -> None:
    fds = FDS(3, first=0, last=9)
    for call in (fds.smooth, fds.update_running_stats):
        with pytest.raises(ValueError, match="made for 3 features, not 4"):
            call(torch.zeros(2, 4), torch.zeros(2), 1)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("variant", VARIANTS.values(), ids=VARIANTS)
def test_cuda_equals_cpu(variant) -> None:
    cpu, cuda = trained(variant), trained(variant, device="cuda")
    for name in OFFICIAL:
        torch.testing.assert_close(getattr(cuda, name).cpu(), getattr(cpu, name), rtol=1e-5, atol=1e-6)
    for shape in [(200, 3), (4, 3, 16, 9)]:
        features, labels = torch.randn(shape), torch.randint(-3, 14, (shape[0], 1, *shape[2:])).float()
        on_cuda = cuda.smooth(features.cuda().requires_grad_(), labels.cuda(), 9)
        torch.testing.assert_close(on_cuda.detach().cpu(), cpu.smooth(features, labels, 9))
    run_epoch(cpu, 3)
    run_epoch(cuda.cpu(), 3)  # back on the host, tables and moments move along
    torch.testing.assert_close(cuda.running_mean, cpu.running_mean, rtol=1e-5, atol=1e-6)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("bins", [None, TargetBins.regular(0, 10, 1)])
def test_smoothing_never_makes_the_host_wait(bins, never_waiting) -> None:
    fds = trained(AGES, device="cuda", bins=bins)
    features, labels = torch.randn(64, 3, device="cuda"), torch.rand(64, 1, device="cuda") * 10
    fds.smooth(features, labels, 9)  # edges of the bins are copied to the device once
    with never_waiting():
        fds.smooth(features.requires_grad_(), labels, 9).sum().backward()
        fds.new_moments().add(features, labels)


@pytest.mark.parametrize("lag", ["none", "alias", "snapshot"])
def test_epochs_that_would_change_nothing_are_refused(lag):
    features, labels = torch.randn(40, 2), torch.arange(40) % 4 + 0.5

    def ended(layer: FDS, *epochs: int) -> FDS:
        for epoch in epochs:
            moments = layer.new_moments()
            moments.add(features, labels)
            layer.end_epoch(moments, epoch)
        return layer

    def fresh(**settings: Any) -> FDS:
        return FDS(2, bins=TargetBins.regular(0, 4, 1), kernel_size=3, lag=lag, **settings)

    late = 1 if lag == "none" else 2  # the published order publishes at the end of the epoch after
    with pytest.raises(ValueError, match=rf"epoch {late} ends, .*start_update={late}"):
        ended(fresh(start_update=0), late)
    with pytest.raises(ValueError, match="epoch 10 ends"):
        ended(fresh(start_update=0), 10)
    with pytest.raises(ValueError, match="epoch 4 ends"):
        ended(fresh(), 0, 1, 4)
    counted = ended(fresh(start_update=1), 0, 1, 2, 3)
    assert not torch.equal(counted.smooth(features, labels, 4), features)
    for first in (0, 1, 10):  # by default the first epoch that ends is the first, whatever its number
        from_there = ended(fresh(), *range(first, first + late))
        torch.testing.assert_close(from_there._scale, ended(fresh(start_update=0), *range(late))._scale, rtol=0, atol=0)
        assert not torch.equal(from_there.smooth(features, labels, first + late), features)
    with pytest.raises(ValueError, match="epoch 9 ends"):
        ended(fresh(), 1, 2, 9)
    assert ended(fresh(in_turn=False), 5).running_mean_last_epoch.abs().sum() == 0
