"""Several language models write one answer together, token by token, as a distributed system over Ray."""

__version__ = "0.2.0"
