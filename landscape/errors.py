"""The one exception that a user's mistake raises, and the warnings that results carry."""


class UserError(ValueError):
    """Say what was expected, what came, and what to do; printed without a traceback."""


class NotConvergedWarning(RuntimeWarning):
    """Warn that an iterative result stopped before reaching the tolerance that was asked for."""
