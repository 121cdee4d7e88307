"""AgeDB-DIR and IMDB-WIKI-DIR: published lists are recognised, and rebuilt from raw files in the real format."""

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from dir_bench import config
from dir_bench.datasets.base import Dataset, Fetchable, Splittable
from dir_bench.datasets.faces import AgeDB, Faces, IMDBWiki
from dir_bench.errors import UserError
from dir_bench.task import Task

SHARED = Path(__file__).parents[4] / "shared"
KINDS = [AgeDB, IMDBWiki]


def make(kind: type[Faces], folder: Path) -> Faces:
    return kind(str(folder), size=32, decode_threads=1)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("faces")
    return {kind.name: make(kind, folder / kind.name).sample(folder / kind.name, n=60) for kind in KINDS}


@pytest.mark.parametrize("kind", KINDS)
def test_stand_in_has_the_real_layout_and_loads(kind: type[Faces], made: dict[str, Path]) -> None:
    dataset = make(kind, made[kind.name])
    assert isinstance(dataset, Dataset)
    assert isinstance(dataset, Fetchable)
    assert isinstance(dataset, Splittable)
    assert list(pd.read_csv(dataset.list_path).columns) == ["age", "path", "split"]
    report = dataset.check()
    assert report.problems == ()
    data = dataset.load()
    assert len(data.val) == len(data.test) > 0
    assert data.train.targets.dtype == np.float32
    np.testing.assert_array_equal(data.train.targets, np.rint(data.train.targets))


def test_stand_ins_of_agedb_are_named_like_its_pictures(made: dict[str, Path]) -> None:
    for path, age in pd.read_csv(made["agedb"] / "agedb.csv")[["path", "age"]].itertuples(index=False):
        number, _, in_name, gender = Path(path).stem.split("_")
        assert path.startswith("AgeDB/")
        assert number.isdigit()
        assert int(in_name) == age
        assert gender in "fm"


def test_imdb_wiki_leaves_out_what_the_mat_files_say(made: dict[str, Path]) -> None:
    listed = set(pd.read_csv(made["imdb_wiki"] / "imdb_wiki.csv")["path"])
    on_disk = {p.relative_to(made["imdb_wiki"]).as_posix() for p in made["imdb_wiki"].glob("*_crop/*/*.jpg")}
    assert listed < on_disk
    assert len(on_disk - listed) == 6  # two faces, no face, an age that cannot be: of each database
    assert {path.split("/")[0] for path in listed} == {"imdb_crop", "wiki_crop"}


@pytest.mark.parametrize("kind", KINDS)
def test_splits_are_rebuilt_from_raw_files_and_a_list_that_is_there_counts(
    kind: type[Faces], made: dict[str, Path], tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(made[kind.name], tmp_path / kind.name, ignore=shutil.ignore_patterns(".cache")))
    dataset = make(kind, folder)
    with pytest.raises(UserError, match="is there already and counts"):
        dataset.write_split()
    before = dataset.list_path.read_bytes()
    dataset.list_path.unlink()
    with pytest.raises(UserError, match=rf"dir-bench data sample {kind.name}"):
        dataset.load()
    assert dataset.write_split().read_bytes() == before
    dataset.list_path.unlink()
    assert dataset.write_split(seed=1).read_bytes() != before


@pytest.mark.parametrize("kind", KINDS)
def test_a_stand_in_is_not_mixed_with_raw_files_that_are_there(kind: type[Faces], tmp_path: Path) -> None:
    raw = tmp_path / {"agedb": "AgeDB/1_Somebody_30_f.jpg", "imdb_wiki": "wiki_crop/wiki.mat"}[kind.name]
    raw.parent.mkdir()
    raw.write_bytes(b"real")
    with pytest.raises(UserError, match="exists and is left as it is"):
        make(kind, tmp_path).sample(tmp_path, n=60)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [raw]
    assert raw.read_bytes() == b"real"


def test_a_list_that_is_neither_published_nor_made_up_is_told(made: dict[str, Path], tmp_path: Path) -> None:
    folder = Path(shutil.copytree(made["agedb"], tmp_path / "agedb", ignore=shutil.ignore_patterns(".cache")))
    listed = pd.read_csv(folder / "agedb.csv")
    for path in listed["path"]:
        (folder / path).rename(folder / path.replace("StandIn", "Somebody"))
    listed["path"] = listed["path"].str.replace("StandIn", "Somebody")
    listed.to_csv(folder / "agedb.csv", index=False)
    (problem,) = make(AgeDB, folder).check().problems
    assert "the published list {'train': 12208, 'val': 2140, 'test': 2140}" in problem


@pytest.mark.parametrize(("age", "says"), [("-1", "age '-1'"), ("abc", "age 'abc'"), ("201", "age '201'")])
def test_an_age_that_cannot_be_is_named_with_its_line(
    made: dict[str, Path], tmp_path: Path, age: str, says: str
) -> None:
    listed = pd.read_csv(made["agedb"] / "agedb.csv", dtype=str)
    listed.loc[4, "age"] = age
    listed.to_csv(tmp_path / "agedb.csv", index=False)
    with pytest.raises(UserError, match=rf"agedb\.csv, line 6: {says} is not a number from 0 to 200"):
        make(AgeDB, tmp_path).load()


def test_the_faces_list_has_to_name_its_splits(made: dict[str, Path], tmp_path: Path) -> None:
    pd.read_csv(made["agedb"] / "agedb.csv").drop(columns="split").to_csv(tmp_path / "agedb.csv", index=False)
    with pytest.raises(UserError, match="no column 'split'"):
        make(AgeDB, tmp_path).load()


def test_missing_agedb_says_whom_to_ask_and_where_to_put_it(tmp_path: Path) -> None:
    with pytest.raises(UserError) as raised:
        make(AgeDB, tmp_path / "agedb").load()
    for part in ("agedb.csv", "password", "owners", "AgeDB", "dir-bench data sample agedb"):
        assert part in str(raised.value)
    with pytest.raises(UserError, match="there is no folder"):
        make(AgeDB, tmp_path / "agedb").write_split()


@pytest.mark.data
class TestPublishedAgeDB:
    @pytest.fixture
    def rows(self) -> pd.DataFrame:
        if not (SHARED / "data" / "agedb" / "agedb.csv").is_file():
            pytest.skip("no ../shared/data/agedb/agedb.csv beside the checkout")
        return make(AgeDB, SHARED / "data" / "agedb").read_list()

    def test_the_published_list_is_recognised(self, rows: pd.DataFrame) -> None:
        dataset = make(AgeDB, SHARED / "data" / "agedb")
        assert dataset._compare_with_published(rows) == ("as published (git blob id)", "")
        assert rows["split"].value_counts().to_dict() == AgeDB.published_rows

    def test_regions_and_counts_are_the_published_facts(self, rows: pd.DataFrame) -> None:
        facts = json.loads((SHARED / "golden" / "dataset_facts.json").read_text(encoding="utf-8"))["agedb_dir"]
        train = rows.loc[rows["split"] == "train", "target"].to_numpy()
        task = Task.of(config.compose(["dataset=agedb"]), lambda bins: bins.counts(train))
        np.testing.assert_array_equal(task.counts, facts["histogram"]["train"])
        masks = task.regions.masks(np.arange(121))
        for ours, theirs in (("many", "many"), ("medium", "median"), ("few", "low")):
            there = set(np.flatnonzero(masks[ours])) & set(np.flatnonzero(task.counts > 0))
            assert there == set(facts["regions"][theirs])
        assert [int(masks[name].sum()) for name in ("many", "medium")] == [51, 16]
