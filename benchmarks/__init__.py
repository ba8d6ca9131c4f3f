"""One script a published number, run from the repository's root (installed editable): `python benchmarks/decode.py`."""
