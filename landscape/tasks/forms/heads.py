"""What the forms for heads have in common: how long rows are, what they start with, classes."""

from __future__ import annotations

from torch import nn
from transformers import PreTrainedTokenizerBase

from landscape.errors import UserError
from landscape.tasks.encoding import token_limit
from landscape.tasks.forms.form import Encoding, Judged, best_of
from landscape.tasks.outputs.labelled import labelled_split
from landscape.tasks.padding import Batch


def row_limit(tokenizer: PreTrainedTokenizerBase, encoding: Encoding, *, texts: int = 1) -> int:
    """Return the most tokens of a row: what is asked for, and what the tokenizer's model takes.

    Args:
        tokenizer: puts its own special tokens around texts.
        encoding: its bos must be the tokenizer's.
        texts: of a row, 1 or 2.

    Raises:
        UserError: another bos, or no room for a token of each text beside the special ones.
    """
    refuse_bos(encoding)
    limit = token_limit(tokenizer, encoding.max_length)
    special: int = tokenizer.num_special_tokens_to_add(pair=texts == 2)
    if limit < special + texts:
        raise UserError(
            f"expected room for {special} special tokens and one of each text, {special + texts} "
            f"in all, got max_length {limit}; raise it"
        )
    return limit


def judged_classes(model: nn.Module, batch: Batch) -> Judged:
    """Return the most probable class of each example of a batch with labels, and the losses."""
    logits, loss = labelled_split(model, batch)
    terms, count = loss(logits)
    return Judged(best_of(logits), terms.tolist(), count, logits.log_softmax(1).tolist())


def refuse_bos(encoding: Encoding) -> None:
    """Refuse to begin rows otherwise than their model was pretrained to read them.

    Raises:
        UserError: bos is not the tokenizer's.
    """
    if encoding.bos != "tokenizer":
        raise UserError(
            f'expected bos="tokenizer" for what a head reads, got {encoding.bos!r}; leave it out, '
            "or take the task's prompts"
        )
