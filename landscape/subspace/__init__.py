"""The trainable subspace: attach a mask to a model, and the model has k trainable numbers."""

from landscape.subspace.attachment import (
    Attachment,
    attach,
    attached_mask,
    dense_gradients,
    detach,
    is_attached,
    masked_origins,
    merge,
    move,
    positions,
    pretrained,
    refuse_unseen_readers,
    synchronise,
    theta_state,
    trainable,
)

__all__ = [
    "Attachment",
    "attach",
    "attached_mask",
    "dense_gradients",
    "detach",
    "is_attached",
    "masked_origins",
    "merge",
    "move",
    "positions",
    "pretrained",
    "refuse_unseen_readers",
    "synchronise",
    "theta_state",
    "trainable",
]
