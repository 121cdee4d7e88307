"""Ten published tables with the splits of the DenseWeight paper: where they are, and what they hold to the byte.

Source: Steininger et al., "Density-based weighting for imbalanced regression", Machine Learning 110, 2021; files of
SteiMi/density-based-weighting-for-imbalanced-regression, folder exp1_and_2/data/real, at one commit. The repository
states GPL-3; the sets are those of the UCI repository and of LIACC (Torgo), with terms of their own.
"""

from pathlib import PurePosixPath

from dir_bench.datasets.download.remote import Remote

HOME = "github.com/SteiMi/density-based-weighting-for-imbalanced-regression"
FOLDER = (
    "https://raw.githubusercontent.com/SteiMi/density-based-weighting-for-imbalanced-regression/"
    "0214ea1ee0c30389720052013dd02183be9055e1/exp1_and_2/data/real"
)

FILES: dict[str, tuple[int, str]] = {
    "abalone_test.csv": (46_680, "02ad28c3d0f9be1dcc9a44c3bf8d09a45c27b79293c0847f98879c906f04ca81"),
    "abalone_train.csv": (140_105, "d1b5c7bf513d8d2d0c353046c9e61d10a41d2f502ae66203995642f593e680b3"),
    "abalone_val.csv": (47_031, "5c7432f13fb010baace439239abfb50def4ebd171bc1c612ccbec5af13658a9a"),
    "acceleration_test.csv": (32_227, "8a14ab5905b9bc943b725b78b796f0d288cd3bd027672b4b7b853156f97cab83"),
    "acceleration_train.csv": (95_401, "5eb89888bc06feb4cc8fedd9c9860b3c00e2a0e49364bb820ca42b42a235ec35"),
    "acceleration_val.csv": (31_791, "0003f7ed57cfb90f2011a73be62a62e6357e837ddf652f247becd37e852e3ee5"),
    "airfoild_test.csv": (13_391, "157c65d1705ad2a4586b60bcbab2eff9ee8ee691a9c7f6e0033f24e4fb46cd44"),
    "airfoild_train.csv": (39_869, "5cd6b0bda8121b15f012b9b77c16305905e967d8067e66600764ee730a1c04e1"),
    "airfoild_val.csv": (13_335, "f51d5401577671a1d6ff1877b7351a32f46105be2a035d1c763a4c03eef824ce"),
    "available_power_test.csv": (42_631, "0b8ee359588a872bfb76cb362e7cd2b1942f0a646ef177d294c7e44bdb3ac537"),
    "available_power_train.csv": (126_105, "f5032b78b5ddda68c82ffa2e1df8317b2bfa110abdf1789db9dd5062fc5be1fe"),
    "available_power_val.csv": (42_693, "c961de610ade635b14f92bde02ed596160be87ce79d0aa4c2c96443f840e2321"),
    "bank8FM_test.csv": (88_913, "719a303da3f910b2ab44117962206e10528867517cb187bf1630ae88d6ef3442"),
    "bank8FM_train.csv": (267_318, "e3edde9b3c20684ae6b1076eff44a59d46df9683cc4e3b8aeb4fc1813fc65090"),
    "bank8FM_val.csv": (89_457, "0ca41beab604d51879414506dfbea97a22245d51cb2869dd7d0c33d4bf41ae85"),
    "boston_test.csv": (8_530, "f14a16555e521be05166a6fb29a9fed01007006b8454ec93983990365b9f1e27"),
    "boston_train.csv": (25_613, "3cc10d0aa2af2f240c20af02a602f13130640a010fe6afb8c57a1bc2251b2dcf"),
    "boston_val.csv": (8_701, "7364af5360194f2f873ebde71020130ab91d26f691f1426c48b08380ea4e814e"),
    "concreteStrength_test.csv": (9_815, "6b55655b667d1121e656eb57abfae002d2e0a36540c4b83581aa2d11f78b655d"),
    "concreteStrength_train.csv": (29_119, "f1155d3e53e616ecd0f8e7de71bed909e1e3f375e813ac138b79fcdea33b6b8e"),
    "concreteStrength_val.csv": (9_792, "1be2cf117108a9a3c93a0c2658ddf2e8dde61696da51bb777d1b1fb4ecc87c9c"),
    "cpu_small_test.csv": (93_060, "445712235144a4538fbd9d16520a711612ddc9dabbdcdf3b73387a37ef4b5aba"),
    "cpu_small_train.csv": (278_885, "382341a267afed503ec571da9df73a0e286b05283dd02769e9d2078d60a80565"),
    "cpu_small_val.csv": (93_100, "c7875a1e2d7a15d3d11306543e2ca1618a587b72f473f05eefa81c9924d5235c"),
    "delta_ailerons_test.csv": (82_628, "7e8ff520461cf67e88df64d27df690f6af162a53e87e36d5c7f5a62fdd73b2a8"),
    "delta_ailerons_train.csv": (246_916, "df521182d8b9389a7c3bcc6401afdfb9c51a942da12f34ee42da64f3f3f2b2b8"),
    "delta_ailerons_val.csv": (82_996, "6c836928fe44ee863a771c27187bdb9773598b220769f40c80a6ca446fedd68c"),
    "fuel_consumption_country_test.csv": (90_601, "efc166fc7f3519ad132e96fddee8a6502838320a6be2bf81f15f8da05705f3f4"),
    "fuel_consumption_country_train.csv": (268_028, "42d2afa54202e8daa3e9434f65937f2c645238b42058c67df7ee5d57f704ead6"),
    "fuel_consumption_country_val.csv": (90_370, "6be6bdb49a3a2396ae03a42d3b0c2276e32c5bdc39d866c5b0cb671df3ba9309"),
}
"""Name of a file to its bytes and its SHA-256."""


def remote(path: str) -> Remote:
    """Return where a file is published; KeyError if it is none of them."""
    name = PurePosixPath(path).name
    size, digest = FILES[name]
    return Remote(f"{FOLDER}/{name}", name, size=size, sha256=digest)


TABLES = tuple(remote(name) for name in FILES)
"""All of them, for `data fetch tables`."""
