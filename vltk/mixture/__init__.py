"""What a pre-training run sees and when: several sets of pairs, several objectives, one plan for all processes."""

from vltk.mixture.exclusion import Exclusion, image_keys, read_list
from vltk.mixture.joined import JoinedFeatures
from vltk.mixture.layouts import LAYOUTS, special_tokens
from vltk.mixture.names import Names
from vltk.mixture.pairs import PairSource, check_finite
from vltk.mixture.plan import Mixture, Share, Work, parse_shares, seed_of

__all__ = [
    "LAYOUTS",
    "Exclusion",
    "JoinedFeatures",
    "Mixture",
    "Names",
    "PairSource",
    "Share",
    "Work",
    "check_finite",
    "image_keys",
    "parse_shares",
    "read_list",
    "seed_of",
    "special_tokens",
]
