"""Relation consistency of a joint encoder: ISDa on annotated objects, and the losses that stand in for it (IAIS)."""
