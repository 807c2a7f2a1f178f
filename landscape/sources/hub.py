"""The hub: one quick question before a long download, so that no network is a sentence, not a wait.

Both ``transformers`` and ``datasets`` retry every file for half a minute before they give up.
"""

from dataclasses import dataclass
from typing import Any, Literal

TIMEOUT = 10.0
"""Seconds to wait for the hub's one answer."""


@dataclass(frozen=True)
class HubAnswer:
    """Say whether a repository can be downloaded now; if not, why."""

    reachable: bool
    revision: str | None = None
    reason: str = ""


def ask_hub(
    name: str, kind: Literal["model", "dataset"], *, revision: str | None = None
) -> HubAnswer:
    """Ask the hub once whether it has a repository.

    Args:
        name: repository, as in ``facebook/opt-125m``.
        kind: "model" or "dataset".
        revision: branch, tag or commit; the default branch if absent.

    Returns:
        Whether it can be reached, with the commit if so and the reason if not. Never raises for a
        network or access problem: a copy in the local cache may still do.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        HFValidationError,
        OfflineModeIsEnabled,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    # The hub client has changed its HTTP library twice; this class names the current one's errors.
    transport: tuple[Any, ...] = (OSError, HfHubHTTPError, *HfHubHTTPError.__bases__)
    try:
        info = HfApi().repo_info(name, repo_type=kind, revision=revision, timeout=TIMEOUT)
    except GatedRepoError:
        return HubAnswer(False, reason=f"the hub asks for a login before it gives {name}")
    except (RepositoryNotFoundError, HFValidationError):
        return HubAnswer(False, reason=f"the hub has no public {kind} named {name}")
    except RevisionNotFoundError:
        return HubAnswer(False, reason=f"the hub's {name} has no revision {revision}")
    except OfflineModeIsEnabled:
        return HubAnswer(False, reason="the hub is switched off (offline mode)")
    except transport as error:
        return HubAnswer(False, reason=f"the hub cannot be reached ({type(error).__name__})")
    return HubAnswer(True, revision=info.sha)
