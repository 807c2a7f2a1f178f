"""Cases of every head: a tiny model, what reads for it, and examples that it can learn."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image
from samples import image_processor
from torch import nn

import landscape as ls
from landscape.tasks.files.pixels import netpbm

LETTERS = "abcdefghijklmnopqrstuvwxyz"
TAGS = ("O", "B-X", "I-X")
CLASSES = ("bad", "fine", "good")


def _fast(tokenizer: Any, pad: str, unknown: str | None, **options: Any) -> Any:
    from transformers import PreTrainedTokenizerFast

    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=pad,
        unk_token=unknown,
        model_max_length=64,
        model_input_names=["input_ids", "token_type_ids", "attention_mask"],
        **options,
    )


def _framed(tokenizer: Any, single: str, pair: str, *special: str) -> Any:
    from tokenizers import processors

    ids = [(token, tokenizer.token_to_id(token)) for token in special]
    tokenizer.post_processor = processors.TemplateProcessing(
        single=single, pair=pair, special_tokens=ids
    )
    return tokenizer


def wordpiece() -> Any:
    """As BERT's and MPNet's: spaces are lost, the second text of a pair is a segment of its own."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
    pieces = [*special, *LETTERS, *(f"##{c}" for c in LETTERS), "and", "##ed", "film"]
    vocabulary = {piece: i for i, piece in enumerate(pieces)}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    framed = _framed(tokenizer, "[CLS] $A [SEP]", "[CLS] $A [SEP] $B:1 [SEP]:1", "[CLS]", "[SEP]")
    return _fast(framed, "[PAD]", "[UNK]", cls_token="[CLS]", sep_token="[SEP]")


def bytewise() -> Any:
    """As RoBERTa's: a space belongs to the word behind it, a pair has no segments."""
    tokenizer = ls.tiny_tokenizer().backend_tokenizer
    framed = _framed(tokenizer, "<s> $A </s>", "<s> $A </s> </s> $B </s>", "<s>", "</s>")
    return _fast(framed, "<pad>", None, bos_token="<s>", eos_token="</s>")


def unigram() -> Any:
    """As DeBERTa-v3's: SentencePiece, whose words begin with a mark."""
    from tokenizers import Tokenizer, models, pre_tokenizers

    special = ["[PAD]", "[CLS]", "[SEP]", "[UNK]"]
    pieces = [(token, 0.0) for token in special]
    pieces += [("▁", -3.0), *((c, -4.0) for c in LETTERS), *((f"▁{c}", -5.0) for c in LETTERS)]
    tokenizer = Tokenizer(models.Unigram([*pieces, ("▁film", -2.0)], unk_id=3))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    framed = _framed(tokenizer, "[CLS] $A [SEP]", "[CLS] $A [SEP] $B:1 [SEP]:1", "[CLS]", "[SEP]")
    return _fast(framed, "[PAD]", "[UNK]", cls_token="[CLS]", sep_token="[SEP]")


#: architecture -> what reads for it
READERS: dict[str, Callable[[], Any]] = {
    "bert": wordpiece, "roberta": bytewise, "mpnet": wordpiece, "deberta-v2": unigram,
    "gpt2": ls.tiny_tokenizer, "llama": ls.tiny_tokenizer,
}  # fmt: skip
ENCODERS = ("bert", "roberta", "mpnet", "deberta-v2")


@dataclass(frozen=True)
class Headed:
    """A form of examples on an architecture."""

    form: str
    architecture: str

    def __str__(self) -> str:
        return f"{self.form}-{self.architecture}"

    def model(self, dtype: torch.dtype = torch.float64) -> nn.Module:
        """Return a model whose weights are wide enough that examples differ at its head."""
        if self.form == "images":
            return ls.tiny_model(self.architecture).to(dtype)
        count, head = len(CLASSES), "sequence"
        if self.form == "tags":
            count, head = len(TAGS), "tokens"
        if self.form == "numbers":
            count = 1
        model = ls.tiny_model(self.architecture, head=head, num_labels=count)
        with torch.random.fork_rng():
            torch.manual_seed(1)
            for p in model.parameters():
                if p.dim() == 2:
                    nn.init.normal_(p, std=0.2)
        return model.to(dtype)

    def reader(self) -> Any:
        if self.form == "images":
            return image_processor(self.architecture)
        return READERS[self.architecture]()

    def task(self, count: int = 12) -> ls.Task:
        examples = tuple(MAKERS[self.form](i) for i in range(count))
        kinds = {"tags": "entity_f1", "numbers": "pearson"}
        return ls.Task(
            "toy", examples[: count // 2], examples[count // 2 : -3], examples[-3:],
            kinds.get(self.form, "accuracy"),
        )  # fmt: skip


def _text(i: int) -> str:
    return f"film {LETTERS[i % 26]} is {'very ' * (i % 4)}{CLASSES[i % 3]}"


def _number(i: int) -> ls.TextExample:
    return ls.TextExample((_text(i), _text(3 * i + 1)), (i % 5) / 2)


def _pair(i: int) -> ls.TextExample:
    return ls.TextExample((_text(i), "and so" + " on" * (i % 3)), i % 3, CLASSES)


def _class(i: int) -> ls.TextExample:
    return ls.TextExample((_text(i),), i % 3, CLASSES)


def _tagged(i: int) -> ls.TaggedExample:
    words = ("film", LETTERS[i % 26], *("zed" for _ in range(i % 4)), "was", "good")
    tags = ("O", "B-X", *("I-X" for _ in range(i % 4)), "O", TAGS[i % 2])
    return ls.TaggedExample(words, tags, TAGS)


def pixels(i: int) -> np.ndarray:
    """An image of 16 x 16 pixels, whose brightness tells its class."""
    noise = np.random.RandomState(i).randint(0, 60, (16, 16, 3))
    return (noise + 80 * (i % 3)).astype(np.uint8)


def _image(i: int) -> ls.ImageExample:
    if i % 2:
        return ls.ImageExample(netpbm(pixels(i)), i % 3, CLASSES)
    stream = io.BytesIO()
    Image.fromarray(pixels(i)).save(stream, "PNG")
    return ls.ImageExample(stream.getvalue(), i % 3, CLASSES)


MAKERS: dict[str, Callable[[int], Any]] = {
    "classes": _class, "pairs": _pair, "numbers": _number, "tags": _tagged, "images": _image,
}  # fmt: skip

HEADED = [
    *(Headed(form, name) for form in ("classes", "pairs", "numbers") for name in READERS),
    *(Headed("tags", name) for name in ENCODERS),
    Headed("images", "vit"),
]
"""Every form on every architecture that answers it."""

FORMS = [
    Headed("pairs", "bert"), Headed("classes", "gpt2"), Headed("numbers", "roberta"),
    Headed("tags", "deberta-v2"), Headed("images", "vit"),
]  # fmt: skip
"""Every form once."""
