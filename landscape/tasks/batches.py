"""Batches: examples of any kind as a model reads them, several at a time."""

from __future__ import annotations

from collections.abc import Sequence

from transformers import PreTrainedTokenizerBase

from landscape import checks
from landscape.tasks.encoding import MAX_LENGTH, Bos
from landscape.tasks.example import AnyExample
from landscape.tasks.forms import form_of
from landscape.tasks.forms.form import AnyEncoded, Encoding
from landscape.tasks.padding import Batch
from landscape.tasks.task import Loss


def make_batches(
    examples: Sequence[AnyExample],
    tokenizer: PreTrainedTokenizerBase,
    batch_size: int,
    *,
    sort: bool = False,
    loss: Loss = "classification",
    max_length: int = MAX_LENGTH,
    bos: Bos = "tokenizer",
) -> list[Batch]:
    """Tokenise examples and collate them into padded batches.

    Args:
        examples: at least one.
        tokenizer: of the model; the image processor of one that sees images.
        batch_size: examples a batch, >= 1; the last batch may be smaller.
        sort: order by length first, which saves padding; else the given order is kept.
        loss: what the batches are for; pass ``task.loss``. With candidates "language modelling"
            keeps the right ones alone.
        max_length: most tokens of a row, at least 2; less where the tokenizer says so.
        bos: what rows start with; see ``landscape.tasks.encoding.encode``.

    Returns:
        The batches; ``landscape.tasks.padding.Batch`` says what they hold.

    Raises:
        UserError: no examples, a batch size below 1, or text that leaves no token, or no room.
    """
    checks.several("examples", examples, "examples")
    checks.tokenizer(tokenizer)
    batch_size = checks.whole("batch_size", batch_size, least=1)
    max_length = checks.whole("max_length", max_length, least=2)
    if not examples:
        checks.refuse("examples", "at least one example", [], "give the rows to make batches of")
    form = form_of(examples)
    encoded = form.encode(examples, tokenizer, Encoding(max_length, bos))
    if sort:
        encoded = [encoded[i] for i in length_order(encoded)]
    return [
        form.collate(encoded[i : i + batch_size], tokenizer, loss)
        for i in range(0, len(encoded), batch_size)
    ]


def length_order(encoded: Sequence[AnyEncoded]) -> list[int]:
    """Return the indices of examples from longest to shortest.

    Equal lengths are ordered by their tokens, so that the same examples in any order make the
    same batches; longest first, so that a batch too large for memory fails at once.
    """
    return sorted(
        range(len(encoded)),
        key=lambda i: (-encoded[i].length, encoded[i].contents),
    )
