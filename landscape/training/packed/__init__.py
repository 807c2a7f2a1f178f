"""Packed training: runs that share a frozen model take their steps together, each as if alone.

A run of a sparse mask changes k of a model's weights; all else that it computes with is the same
for every such run. So R runs, here *lanes*, go through the model in one forward and one backward:

    lane        a run: its task, mask, trained and own tensors, and settings
    refusals    what cannot be packed, in a sentence
    chunks      the rows of all lanes' batches, sorted by length and cut where padding ends
    layers      forwards of the layers in which lanes differ
    products    the product of a layer with each lane's own weights, and its gradients
    dropout     the masks that each lane's solo run draws
    course      a lane under way: its parameters, optimizer, best point, records
    alone       the model as one lane has it, for evaluations and all that is measured
    pack        the lanes' steps together, as a state that can be saved
    folder      the files of a pack, and of its lanes' runs
    finetuning  the whole of it in one call

A CPU multiplies lane by lane. On a GPU, where launches are what costs, a pack hands its steps and
evaluations to `together`, made of

    stacked     the masked weights of all lanes, multiplied in one batched product a layer
    table       all training examples on the device, of which a step takes rows
    updating    AdamW of all lanes at once
    judging     evaluations of several lanes in the same forwards

Rows do not see each other in a model, so a lane's numbers are its solo run's to rounding, and a
lane that diverges spoils no other's.
"""

from landscape.training.packed.finetuning import finetune_packed
from landscape.training.packed.lane import Lane, lane_of
from landscape.training.packed.refusals import why_not

__all__ = ["Lane", "finetune_packed", "lane_of", "why_not"]
