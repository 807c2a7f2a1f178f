"""What files are read as: the kind of model that they hold, or a classifier with a new head."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from transformers import PretrainedConfig, PreTrainedModel

from landscape import seeds
from landscape.errors import UserError
from landscape.models.kinds import (
    CLASSIFIERS,
    HEADS,
    Head,
    Kind,
    head_modules,
    kind_named,
    reader,
    sees_images,
)


@dataclass(frozen=True)
class Wanted:
    """Say what to read: what the files hold, or a classifier whose head has a seed.

    Args:
        num_labels: of the classifier, 1 for a regression head; None for what the files hold or,
            if ``bare``, for no head.
        seed: of the head, where the files hold none.
        bare: read an encoder without a head where no number of labels is given.
        head: what a classifier of texts gives its labels to.
        new_head: leave out the head that the files hold.
        zero_shot: read a model of images and texts, to make a classifier of it.
    """

    num_labels: int | None
    seed: int
    bare: bool = False
    head: Head = "sequence"
    new_head: bool = False
    zero_shot: bool = False

    @property
    def given(self) -> Kind:
        """Return the kind that is wanted as far as the arguments tell."""
        if self.zero_shot:
            return "encoder of images and texts"
        if self.num_labels is not None:
            return HEADS[self.head]
        return "encoder" if self.bare else "causal language model"

    def kind(self, config: PretrainedConfig, name: str) -> Kind:
        """Return the kind that files with a configuration are read as.

        Raises:
            UserError: a zero-shot classifier is wanted of another model than CLIP, or labels of
                tokens from one of images.
        """
        held = held_kind(config)
        if self.zero_shot:
            if config.model_type != "clip":
                raise UserError(
                    f"expected a CLIP model in {name} for classes=, got {config.model_type}; give "
                    "one such as openai/clip-vit-base-patch16, or num_labels= for a new head"
                )
            return self.given
        if self.num_labels is not None:
            if not (sees_images(config) or held == "image classifier"):
                return self.given
            if self.head != "sequence":
                raise UserError(
                    f"expected a model of texts in {name} for head={self.head!r}, got "
                    f"{config.model_type}, which sees images; leave head out"
                )
            return "image classifier"
        if self.bare:
            return "image encoder" if sees_images(config) else self.given
        if held is None and config.is_encoder_decoder:
            return "encoder-decoder language model"
        return held or self.given

    def read(self, kind: Kind, config: PretrainedConfig, name: str, **options: Any) -> Any:
        """Read a model's files with the class that reads this kind."""
        reads: Any = reader(kind)
        if _is_zero_shot(config):
            from landscape.models.zero_shot import ZeroShotClassifier as reads
        if self.num_labels is None:
            return reads.from_pretrained(name, **options)
        with seeds.drawing(self.seed):
            if self.new_head:
                options["ignore_mismatched_sizes"] = True
            model, report = reads.from_pretrained(name, num_labels=self.num_labels, **options)
            if self.new_head:
                _draw_head(model)
        return model, report

    def refuse_other_labels(self, config: PretrainedConfig, kind: Kind, name: str) -> None:
        """Refuse another number of labels than the head has that the files hold.

        Raises:
            UserError: it is another one, and no new head is asked for, or the head is fixed.
        """
        if self.new_head and _is_zero_shot(config):
            raise UserError(
                f"expected the fixed head of the zero-shot classifier in {name}, got new_head; "
                "leave it out, or load the CLIP model that it was made of"
            )
        held = config.num_labels if held_kind(config) == kind else None
        if None not in (held, self.num_labels) and self.num_labels != held and not self.new_head:
            raise UserError(
                f"expected num_labels={held}, as the head of the {kind} in {name} has, got "
                f"{self.num_labels}; give {held}, or new_head=True for another head, drawn from "
                "the seed"
            )

    def refuse_missing(
        self, kind: Kind, model: PreTrainedModel, name: str, missing: list[str]
    ) -> None:
        """Refuse a model that the files hold a part of; the rest would be random.

        A classifier's head may be missing where a number of labels is given, for it has a seed; so
        may what pools for it.

        Raises:
            UserError: other weights are missing.
        """
        if self.num_labels is not None:
            heads = tuple(f"{name}." for name in head_modules(model))
            missing = [n for n in missing if not n.startswith(heads) and "pooler" not in n]
        if kind in ("encoder", "image encoder"):
            missing = [n for n in missing if "pooler" not in n]
        if missing:
            more = f" and {len(missing) - 1} others" if len(missing) > 1 else ""
            advice = "fetch the files again"
            if kind not in CLASSIFIERS:
                advice += " or, for an encoder, give num_labels= (--num-labels) for a classifier"
            raise UserError(
                f"expected all weights of a {kind} in {name}, got none for {missing[0]}{more}; "
                f"{advice}"
            )


def held_kind(config: PretrainedConfig) -> Kind | None:
    """Return the kind of model that files hold, as far as the name of its class tells.

    >>> from transformers import BertConfig
    >>> held_kind(BertConfig(architectures=["BertForTokenClassification"]))
    'token classifier'
    """
    names = config.architectures or [""]
    return kind_named(names[0])


def _is_zero_shot(config: PretrainedConfig) -> bool:
    return (config.architectures or [""])[0] == "ZeroShotClassifier"


@torch.no_grad()
def _draw_head(model: Any) -> None:
    """Draw what lies outside of a model's body anew, from torch's generator, by its own rules.

    Its labels lose the names that the files' head has: they stand for nothing yet.
    """
    model.config.id2label = {i: f"LABEL_{i}" for i in range(model.config.num_labels)}
    model.config.label2id = {name: i for i, name in model.config.id2label.items()}
    for name in head_modules(model):
        for module in model.get_submodule(name).modules():
            for parameter in module.parameters(recurse=False):
                parameter._is_hf_initialized = False  # transformers marks what it has read
            model._init_weights(module)
