"""vltk: region-based vision-language research, from photographs to numbers with receipts."""

__version__ = "0.1.0"
