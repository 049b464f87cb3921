"""``python -m vltk``: the command line where its script is not at hand."""

from __future__ import annotations

import sys

from vltk.cli import main

sys.exit(main())
