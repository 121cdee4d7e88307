"""Polysomnography: EDF to features, the tables of scores, the store of prepared nights, stand-ins."""
