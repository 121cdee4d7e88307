"""Torchvision's networks without their classifiers: features, what is refused, files of weights, official names."""

import json
import math
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import yaml
from torch import Tensor, nn
from torchvision import models

from dir_bench import config
from dir_bench.backbones.vision import Vision
from dir_bench.errors import UserError

MODEL_FACTS = Path(__file__).parents[3] / "shared" / "golden" / "model_facts.json"
REFUSED = {"googlenet", "inception_v3", "squeezenet1_0", "squeezenet1_1"}
ONE_OF_EACH_FAMILY = {
    *("alexnet", "convnext_tiny", "densenet121", "efficientnet_b0", "efficientnet_v2_s", "maxvit_t", "mnasnet0_5"),
    *("mobilenet_v2", "mobilenet_v3_small", "regnet_y_400mf", "resnet34", "resnext50_32x4d", "shufflenet_v2_x0_5"),
    *("swin_t", "swin_v2_t", "vgg11_bn", "vit_b_32", "wide_resnet50_2"),
}


@pytest.fixture
def no_memory() -> Iterator[None]:
    """Give parameters shapes alone. (RegNet computes its widths with tensors, so the default device stays.)"""

    def on_meta(_module: nn.Module, _name: str, parameter: nn.Parameter | None) -> nn.Parameter | None:
        return None if parameter is None else nn.Parameter(parameter.to("meta"))

    handle = nn.modules.module.register_module_parameter_registration_hook(on_meta)  # type: ignore[arg-type]
    yield
    handle.remove()


def small(**kwargs: object) -> Vision:
    torch.manual_seed(0)
    return Vision("resnet18", **{"size": 64, **kwargs})  # type: ignore[arg-type]


def pictures(count: int = 2) -> Tensor:
    return torch.randn(count, 3, 64, 64, generator=torch.Generator().manual_seed(1))


@pytest.mark.usefixtures("no_memory")
@pytest.mark.parametrize("name", sorted(ONE_OF_EACH_FAMILY))
def test_a_classification_network_of_each_family_gives_feature_vectors(name: str) -> None:
    network = Vision(name).eval().to("meta")
    assert network(torch.empty(2, 3, 224, 224, device="meta")).shape == (2, network.feature_dim)


def test_no_family_of_networks_is_left_out() -> None:
    """Networks of one module of torchvision differ in depths and widths alone."""
    tried = {models.get_model_builder(name).__module__ for name in ONE_OF_EACH_FAMILY | REFUSED}
    assert {models.get_model_builder(name).__module__ for name in models.list_models(module=models)} == tried


@pytest.mark.filterwarnings("ignore:The default weight initialization:FutureWarning")
@pytest.mark.parametrize("name", sorted(REFUSED))
def test_a_network_without_a_single_classifier_is_refused(name: str) -> None:
    with pytest.raises(UserError, match=f"'{name}' has no single classifier"):
        Vision(name)


def test_an_unknown_network_meets_its_nearest_name() -> None:
    with pytest.raises(UserError, match=r"'resnet5' is no classification network .* \(did you mean 'resnet50'\?\)"):
        Vision("resnet5")


def test_pictures_that_the_network_cannot_take_are_refused() -> None:
    with pytest.raises(UserError, match=r"vit_b_32 cannot take pictures of 64×64 pixels \(Wrong image height"):
        Vision("vit_b_32", size=64)
    with pytest.raises(UserError, match="takes pictures of 3 channels and the data have 1"):
        Vision("resnet18", in_channels=1)


def test_features_are_what_the_classifier_reads() -> None:
    torch.manual_seed(0)
    whole = models.resnet18().eval()
    network = small().eval()
    network.network.load_state_dict({k: v for k, v in whole.state_dict().items() if not k.startswith("fc.")})
    features = network(pictures())
    assert features.shape == (2, 512)
    torch.testing.assert_close(whole.fc(features), whole(pictures()), rtol=0, atol=0)


def test_bytes_are_scaled_to_one_half() -> None:
    network = small().eval()
    whole = torch.arange(256, dtype=torch.uint8).repeat(48).reshape(1, 3, 64, 64)
    torch.testing.assert_close(network(whole), network(whole.float() / 255 - 0.5), rtol=0, atol=0)


def test_every_weight_gets_a_gradient() -> None:
    network = small()
    network(pictures()).square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in network.parameters())


def test_evaluation_draws_nothing() -> None:
    torch.manual_seed(0)
    network = Vision("mobilenet_v3_small", size=64)  # has dropout before its classifier
    assert not torch.equal(network(pictures()), network(pictures()))
    network.eval()
    torch.testing.assert_close(network(pictures()), network(pictures()), rtol=0, atol=0)


def test_initial_weights_are_the_published_ones() -> None:
    # imdb-wiki-dir/resnet.py: normal, variance 2 / (k·k·output channels); batch norm 1 and 0.
    for module in small().modules():
        if isinstance(module, nn.Conv2d) and module.weight.numel() > 30_000:
            std = math.sqrt(2 / (module.kernel_size[0] ** 2 * module.out_channels))
            assert module.weight.std().item() == pytest.approx(std, rel=0.02)
            assert abs(module.weight.mean().item()) < 0.02 * std
        if isinstance(module, nn.BatchNorm2d):
            assert (module.weight == 1).all()
            assert (module.bias == 0).all()


def test_initial_weights_depend_on_the_seed_alone() -> None:
    one, other = small(size=64).state_dict(), small(size=96).state_dict()
    assert all(torch.equal(one[key], other[key]) for key in one)


def torchvision_file(path: Path, name: str = "resnet18", drop: str = "") -> dict[str, Tensor]:
    torch.manual_seed(7)
    state = {k: v for k, v in models.get_model(name).state_dict().items() if not drop or not k.endswith(drop)}
    torch.save(state, path)
    return state


def test_a_file_of_weights_is_loaded_without_its_classifier(tmp_path: Path) -> None:
    state = torchvision_file(tmp_path / "weights.pth")
    ours = small(weights=str(tmp_path / "weights.pth")).network.state_dict()
    assert state.keys() - ours.keys() == {"fc.weight", "fc.bias"}
    assert all(torch.equal(ours[key], state[key]) for key in ours)


def test_an_old_file_that_counts_no_batches_is_loaded(tmp_path: Path) -> None:
    state = torchvision_file(tmp_path / "weights.pth", drop="num_batches_tracked")
    ours = small(weights=str(tmp_path / "weights.pth")).network.state_dict()
    assert torch.equal(ours["conv1.weight"], state["conv1.weight"])
    assert ours["bn1.num_batches_tracked"] == 0


@pytest.mark.parametrize(
    ("other", "reason"),
    [
        ("resnet34", "it also has layer1.2.conv1.weight"),
        ("resnet50", "its layer1.0.conv1.weight is 64×64×1×1, not 64×64×3×3"),
        ("mobilenet_v3_small", "it has no conv1.weight"),
    ],
)
def test_weights_of_another_network_are_refused(tmp_path: Path, other: str, reason: str) -> None:
    torchvision_file(tmp_path / "weights.pth", other)
    with pytest.raises(UserError, match=f"is not of resnet18, {reason}: .*data fetch resnet50_imagenet"):
        small(weights=str(tmp_path / "weights.pth"))


def test_a_file_that_cannot_be_used_says_what_to_do(tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    with pytest.raises(UserError, match=re.escape(f"{path}: there is no such file") + ".*data fetch resnet50_imagenet"):
        small(weights=str(path))
    torchvision_file(path)
    whole = path.read_bytes()
    for damaged in (whole[: len(whole) // 2], whole[:100], b"", b"<html>not found</html>"):
        path.write_bytes(damaged)
        with pytest.raises(UserError, match=r"is damaged or is no file of weights \(.*\): fetch it again"):
            small(weights=str(path))
    torch.save({"epoch": 3, "state_dict": {}}, path)
    with pytest.raises(UserError, match="is no plain state dict"):
        small(weights=str(path))


@pytest.mark.parametrize("prefix", ["", "module."])
def test_an_official_checkpoint_is_read(tmp_path: Path, prefix: str) -> None:
    torch.manual_seed(5)
    official = models.resnet18(num_classes=1).eval()
    state = {prefix + key.replace("fc.", "linear."): value for key, value in official.state_dict().items()}
    state |= {f"{prefix}FDS.epoch": torch.zeros(1), f"{prefix}FDS.running_mean": torch.zeros(97, 512)}
    torch.save(state, tmp_path / "checkpoint.pth")
    backbone, regressor = Vision.from_official(torch.load(tmp_path / "checkpoint.pth", weights_only=True))
    network, last = small().eval(), nn.Linear(512, 1)
    network.load_state_dict(backbone)
    last.load_state_dict(regressor)
    torch.testing.assert_close(last(network(pictures())), official(pictures()), rtol=0, atol=0)


@pytest.mark.data
@pytest.mark.skipif(not MODEL_FACTS.is_file(), reason="the facts of the official models are not beside this clone")
@pytest.mark.parametrize("model", ["age_resnet50", "age_resnet50_with_fds"])
def test_names_and_shapes_are_the_official_ones(model: str) -> None:
    facts = json.loads(MODEL_FACTS.read_text())
    listed = facts["age_resnet50"]["state_dict"] + facts[model].get("extra_keys", [])
    state = {key: torch.empty(shape, device="meta") for key, shape, _ in listed}
    backbone, regressor = Vision.from_official(state)
    with torch.device("meta"):
        network, last = Vision(), nn.Linear(2048, 1)
    assert {k: v.shape for k, v in backbone.items()} == {k: v.shape for k, v in network.state_dict().items()}
    assert {k: v.shape for k, v in regressor.items()} == {k: v.shape for k, v in last.state_dict().items()}
    parameters = [*network.parameters(), *last.parameters()]
    assert sum(p.numel() for p in parameters) == facts["age_resnet50"]["parameters"] == 23_510_081


@pytest.mark.usefixtures("no_memory")
@pytest.mark.parametrize(
    ("choice", "feature_dim"),
    [
        *(("resnet50", 2048), ("resnet18", 512), ("vision", 2048)),
        *(("depth_resnet50", 128), ("depth_resnet18", 80), ("depth_small", 18)),
    ],
)
def test_configs_build(choice: str, feature_dim: int) -> None:
    node = yaml.safe_load((config.config_dir() / "backbone" / f"{choice}.yaml").read_text(encoding="utf-8"))
    assert config.build(node, in_channels=3, size=64).feature_dim == feature_dim
