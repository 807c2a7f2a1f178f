"""Verify what is claimed about masked linear regression, and refute what is false."""

import lazy_loader as _lazy

# every public name is imported when it is first used: the network needs torch, which takes seconds;
# the names, and where each lives, are listed in __init__.pyi
__getattr__, __dir__, __all__ = _lazy.attach_stub(__name__, __file__)
