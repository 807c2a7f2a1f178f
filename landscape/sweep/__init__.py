"""Sweeps: a grid becomes runs, each with an address; one store keeps them, each is done once."""

import lazy_loader as _lazy

# every name is imported when it is first used: a grid is data, and what computes it takes seconds;
# the names, and where each lives, are listed in __init__.pyi
__getattr__, __dir__, __all__ = _lazy.attach_stub(__name__, __file__)
