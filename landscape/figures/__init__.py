"""Figures of the landscape: surfaces and spectra, on paper and on a page; tables as text."""

import lazy_loader as _lazy

__getattr__, __dir__, __all__ = _lazy.attach_stub(__name__, __file__)
