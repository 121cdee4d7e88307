"""Files that are published somewhere. To name them nothing is imported that could fetch them.

Where the files come from is what the authors' code names (YyzHarry/imbalanced-regression, MIT licence: the READMEs and
download scripts of imdb-wiki-dir, agedb-dir, nyud2-dir and sts-b-dir), at one commit where it is their own repository.
The data themselves have licences of their own.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Remote:
    """One published file, and where it or its content belongs.

    Attributes:
        url: Where it is published.
        name: Its name on disk, and below a mirror.
        subfolder: Folder, below the dataset's, that the file goes into or the archive is unpacked into.
        size: Bytes, if known for certain.
        approximate_size: Bytes, for the question whether the disk has room, where `size` is not known.
        sha256: Hex digest, if known.
        git_sha1: The file's id as a git blob, ``sha1("blob <bytes>\\0" + content)``, if known.
        members: Of an archive, paths below `subfolder` that prove it is unpacked already. Empty: the file is kept as
            it is.
        member_sha256: Hex digests of `members`, if known: what stands in for them is not taken for them.
        strip: Of an archive, leading parts taken off the paths in it.
        only: Of an archive, the one folder that is taken, by its path below the archive's own top folder; "": all.
    """

    url: str
    name: str
    subfolder: str = ""
    size: int | None = None
    approximate_size: int = 0
    sha256: str | None = None
    git_sha1: str | None = None
    members: tuple[str, ...] = ()
    member_sha256: tuple[str, ...] = ()
    strip: int = 0
    only: str = ""

    @property
    def expected_size(self) -> int:
        """Bytes of the file, as well as they are known."""
        return self.approximate_size if self.size is None else self.size


AUTHORS = "https://raw.githubusercontent.com/YyzHarry/imbalanced-regression/c37d6f46d35e5a0b37277d8d925ad112ed8ef487"
"""Where the authors of the benchmarks publish lists and splits, at one commit."""

GLOVE = (Remote("https://nlp.stanford.edu/data/glove.840B.300d.zip", "glove.840B.300d.zip", size=2_176_768_927),)
"""Word vectors (Pennington et al. 2014), kept zipped."""

RESNET50_IMAGENET = (
    Remote(
        "https://download.pytorch.org/models/resnet50-19c8e357.pth",
        "resnet50-19c8e357.pth",
        size=102_502_400,
        sha256="19c8e3572231adff6824a2da93fd67b5986919a2e65f8b6007eab4edee220097",
    ),
)
"""The ImageNet weights that the published NYUD2 code starts from (torchvision names another file by now)."""

WEIGHTS = {"glove": GLOVE, "resnet50_imagenet": RESNET50_IMAGENET}
"""By name; they share the folder "weights"."""
