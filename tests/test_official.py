"""`dir-bench evaluate --checkpoint`: what the published code wrote is read by its names, and gives the same outputs."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torchvision.models import resnet18

from dir_bench import cli, config, experiment
from dir_bench.backbones.bilstm import OFFICIAL_ENCODER, BiLSTMPair
from dir_bench.backbones.depth import OFFICIAL_BACKBONE, OFFICIAL_REGRESSOR, DepthNet
from dir_bench.datasets.faces import AgeDB
from dir_bench.datasets.nyud2 import NYUD2
from dir_bench.errors import UserError
from dir_bench.schema import Config

STS_B = Path(__file__).parents[2] / "shared" / "data" / "sts_b"


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    AgeDB(str(folder / "agedb")).sample(folder / "agedb", n=40)
    NYUD2(str(folder / "nyud2")).sample(folder / "nyud2", n=2)
    return folder


def faces(data: Path, *overrides: str) -> Config:
    small = ["dataset=agedb", f"paths.data={data}", "backbone=resnet18", "dataset.source.size=32", "trainer.cache=ram"]
    return config.compose([*small, *overrides])


def official_faces() -> nn.Module:
    """Return a network with the published names: torchvision's, with `linear` for `fc`."""
    network = resnet18(num_classes=1)
    network.linear = network.fc
    del network._modules["fc"]
    return network


def save(path: Path, state: dict[str, Any], **beside: Any) -> Path:
    torch.save({"state_dict": {f"module.{key}": value for key, value in state.items()}, **beside}, path)
    return path


def test_a_published_age_checkpoint_gives_its_own_errors(data: Path, tmp_path: Path, capsys) -> None:
    torch.manual_seed(0)
    network = official_faces()
    fds = {f"FDS.{name}": torch.zeros(97, 512) for name in ("running_mean", "running_var")}
    optimizer = torch.optim.Adam(network.parameters()).state_dict()
    path = save(
        tmp_path / "ckpt.best.pth.tar", network.state_dict() | fds,
        epoch=3, model="resnet50", best_loss=np.float64(7.5), optimizer=optimizer,
    )  # fmt: skip
    settings = faces(data)
    metrics = experiment.evaluate_official(settings, path)
    test = AgeDB(str(data / "agedb"), size=32, cache="ram").load().test
    pictures, _ = test.prepare(test.fetch(np.arange(len(test)), None), None)
    network.fc, network.linear = network.linear, None
    with torch.no_grad():
        predicted = network.eval()(pictures)[:, 0].numpy()
    assert metrics["test"]["all"]["mae"] == pytest.approx(np.abs(predicted - test.targets).mean(), rel=1e-4)
    arguments = ["dataset=agedb", f"paths.data={data}", "backbone=resnet18", "dataset.source.size=32"]
    assert cli.main(["evaluate", "--checkpoint", str(path), *arguments, "trainer.cache=none"]) == 0
    assert f"{metrics['test']['all']['mae']:.2f}" in capsys.readouterr().out


@pytest.mark.slow
def test_a_published_depth_checkpoint_gives_its_own_errors(data: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = DepthNet("resnet18")
    regressor = network.make_regressor()
    names = {ours: official for official, ours in OFFICIAL_BACKBONE.items()}
    state = {
        next(official + key.removeprefix(ours) for ours, official in names.items() if key.startswith(ours)): value
        for key, value in network.state_dict().items()
    }
    state |= {OFFICIAL_REGRESSOR + key: value for key, value in regressor.state_dict().items()}
    path = save(tmp_path / "nyud2.pth.tar", state, epoch=1, error=1.5)
    settings = config.compose(
        ["dataset=nyud2", f"paths.data={data}", "backbone=depth_resnet18", "trainer.cache=ram", "fds=gaussian"]
    )
    metrics = experiment.evaluate_official(settings, path)
    test = NYUD2(str(data / "nyud2"), cache="ram").load().test
    pictures, _ = test.prepare(test.fetch(np.arange(len(test)), None), None)
    with torch.no_grad():
        output = regressor.eval()(network.eval()(pictures))
    places, values = test.judge(output, np.arange(len(test)))
    error = values.numpy() - test.judged[places.numpy()]
    assert metrics["test"]["all"]["rmse"] == pytest.approx(np.sqrt((error**2).mean()), rel=1e-4)


def test_what_is_no_such_checkpoint_is_refused_in_a_sentence(data: Path, tmp_path: Path) -> None:
    settings = faces(data)
    for name, content, says in (
        ("words.pth", {"state_dict": {"a": "b"}}, "holds no weights"),
        ("other.pth", {"state_dict": {"module.conv1.weight": torch.zeros(3)}}, "is not a checkpoint of"),
    ):
        torch.save(content, tmp_path / name)
        with pytest.raises(UserError, match=says) as raised:
            experiment.evaluate_official(settings, tmp_path / name)
        assert "\n" not in str(raised.value)
    torch.save({"state_dict": Path()}, tmp_path / "code.pth")
    with pytest.raises(UserError, match=r"code\.pth cannot be read \(it is damaged, or holds more than weights"):
        experiment.evaluate_official(settings, tmp_path / "code.pth")
    (tmp_path / "torn.pth").write_bytes(b"PK\x03\x04")
    with pytest.raises(UserError, match=r"torn\.pth cannot be read"):
        experiment.evaluate_official(settings, tmp_path / "torn.pth")
    with pytest.raises(UserError, match="has no published checkpoints"):
        experiment.evaluate_official(faces(data, "backbone=cnn"), save(tmp_path / "a.pth", {"a": torch.zeros(1)}))
    with pytest.raises(UserError, match="no checkpoint at"):
        experiment.evaluate_official(settings, tmp_path / "nowhere.pth")


@pytest.mark.data
@pytest.mark.skipif(not STS_B.is_dir(), reason="no ../shared/data/sts_b beside the checkout")
def test_a_published_text_checkpoint_with_17008_words_is_taken(tmp_path: Path) -> None:
    torch.manual_seed(0)
    small = {"hidden": 8, "layers": 1}
    network = BiLSTMPair(17008, **small)
    regressor = nn.Linear(network.feature_dim, 1)
    state = {
        official + key.removeprefix(ours): value
        for key, value in network.state_dict().items()
        for official, ours in OFFICIAL_ENCODER.items()
        if key.startswith(ours)
    }
    state |= {f"sts-b_pred_layer.{key}": value for key, value in regressor.state_dict().items()}
    torch.save({"state_dict": state}, tmp_path / "sts_b.pth")
    overrides = ["dataset=sts_b", f"paths.data={STS_B.parent}", *(f"backbone.{k}={v}" for k, v in small.items())]
    metrics = experiment.evaluate_official(config.compose(overrides), tmp_path / "sts_b.pth")
    assert metrics["test"]["all"]["count"] == 1000
