"""The trainable subspace: attach a mask to a model, and the model has k trainable parameters."""

from landscape.subspace.attached import (
    Attachment,
    attached_mask,
    is_attached,
    synchronise,
)
from landscape.subspace.attachment import attach, detach, merge, thetas, trainable
from landscape.subspace.dense import dense_parameters, dense_starts
from landscape.subspace.gradients import dense_gradients, refuse_unseen_readers
from landscape.subspace.movement import move, positions
from landscape.subspace.states import masked_origins, pretrained, theta_state

__all__ = [
    "Attachment",
    "attach",
    "attached_mask",
    "dense_gradients",
    "dense_parameters",
    "dense_starts",
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
    "thetas",
    "trainable",
]
