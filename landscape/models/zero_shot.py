"""CLIP as an image classifier with a fixed head: embeddings of texts that name the classes."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from transformers import CLIPModel, CLIPVisionConfig, PreTrainedTokenizerBase
from transformers.modeling_outputs import ImageClassifierOutput
from transformers.models.clip.modeling_clip import CLIPPreTrainedModel, CLIPVisionModel

from landscape import checks
from landscape.errors import UserError
from landscape.models.modes import eval_mode

TEMPLATES = ("a photo of a {}.",)
"""The texts of a class where none are given: ``{}`` is its name."""

_TEXTS = 64
"""Texts of one forward."""


class ZeroShotClassifier(CLIPPreTrainedModel):
    """Classify an image by the cosine of its features with a fixed embedding of each class.

        logit_j = scale <f(x) / |f(x)|, e_j>,   |e_j| = 1

    Its parameters are those of the vision tower and its projection: what may be masked. The head
    is a buffer, ``class_embeddings`` of shape (classes, features), the scale multiplied in; it is
    saved with the model and counts among what a delta knows its base by.

    Args:
        config: of the vision tower; ``id2label`` names the classes, ``projection_dim`` is the
            number of features.
    """

    config_class = CLIPVisionConfig
    main_input_name = "pixel_values"
    base_model_prefix = "vision_model"
    loss_type = "ForImageClassification"

    def __init__(self, config: CLIPVisionConfig) -> None:
        super().__init__(config)
        self.vision_model = CLIPVisionModel(config)
        self.visual_projection = nn.Linear(config.hidden_size, config.projection_dim, bias=False)
        self.class_embeddings: Tensor
        head = torch.zeros(config.num_labels, config.projection_dim)
        self.register_buffer("class_embeddings", head)
        self.post_init()

    def forward(
        self,
        pixel_values: Tensor,
        labels: Tensor | None = None,
        interpolate_pos_encoding: bool = False,
        **options: Any,
    ) -> Any:
        """Return the logits (b, classes) of images, and with labels their mean cross-entropy.

        Args:
            pixel_values: shape (b, channels, height, width).
            labels: numbers of classes, shape (b,).
            interpolate_pos_encoding: take images of another size than the tower was trained on.
            options: what else the tower takes.
        """
        seen = self.vision_model(
            pixel_values, interpolate_pos_encoding=interpolate_pos_encoding, **options
        )
        features = _unit(self.visual_projection(seen.pooler_output))
        logits = features @ self.class_embeddings.to(features.dtype).t()
        loss = None if labels is None else F.cross_entropy(logits, labels)
        return ImageClassifierOutput(
            loss=loss, logits=logits, hidden_states=seen.hidden_states, attentions=seen.attentions
        )


def zero_shot_classifier(
    model: nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    classes: Sequence[str],
    templates: Sequence[str] = TEMPLATES,
) -> ZeroShotClassifier:
    """Make an image classifier of a CLIP model, with a head of its own text embeddings.

        e_j = m_j / |m_j|,   m_j = mean over templates t of g(t with class j) / |g(..)|

    With one template its logits are the model's own ``logits_per_image``. The vision tower is taken
    over, not copied; the text tower is needed no longer. The papers mask and adapt the layers
    of its MLPs: ``targets=["*.mlp.fc1", "*.mlp.fc2"]``.

    Args:
        model: a ``CLIPModel``, without a mask.
        tokenizer: of its texts.
        classes: c >= 2 different names; label j of a batch stands for class j.
        templates: texts around a name, each with ``{}`` in its place; several are averaged.

    Returns:
        The classifier, in eval mode, on the model's device and in its type.

    Raises:
        UserError: another kind of model, classes or templates that cannot be, or a text that is too
            long for the model.

    Cost: a forward of the text tower for each class and template. Source: Radford et al. 2021,
    section 3.1.4 (prompts and their averages).
    """
    if not isinstance(model, CLIPModel):
        checks.refuse("model", "a CLIPModel of transformers", model, "load one, as "
                      "load_model('openai/clip-vit-base-patch16') does")  # fmt: skip
    checks.tokenizer(tokenizer)
    clip: Any = model
    head = _head(clip, tokenizer, checked_classes(classes), checked_templates(templates))
    config = copy.deepcopy(clip.config.vision_config)
    config.projection_dim = clip.config.projection_dim
    config.id2label = dict(enumerate(classes))
    config.label2id = {name: j for j, name in enumerate(classes)}
    with torch.device("meta"):
        made = ZeroShotClassifier(config)
    made.vision_model, made.visual_projection = clip.vision_model, clip.visual_projection
    made.class_embeddings = head
    return made.eval()


def checked_classes(classes: object) -> tuple[str, ...]:
    """Return the names of classes.

    Raises:
        UserError: fewer than two, or the same one twice, or an empty one.
    """
    names = checks.texts("classes", classes)
    twice = next((name for name in names if names.count(name) > 1), None)
    if len(names) < 2 or twice is not None or not all(name.strip() for name in names):
        got = f"{twice!r} twice" if twice is not None else checks.shown(names)
        raise UserError(
            f"expected classes to be at least two different names, got {got}; name each class as "
            "a text about it would"
        )
    return names


def checked_templates(templates: object) -> tuple[str, ...]:
    """Return the texts around a class's name.

    Raises:
        UserError: none, or one without a place for the name.
    """
    found = checks.texts("templates", templates)
    wrong = [t for t in found if "{}" not in t]
    if wrong or not found:
        checks.refuse("templates", "texts with {} in the place of a class's name",
                      wrong[0] if wrong else found, f"such as {TEMPLATES[0]!r}")  # fmt: skip
    return found


@torch.no_grad()
def _head(
    clip: Any, tokenizer: Any, classes: Sequence[str], templates: Sequence[str]
) -> Float[Tensor, "c d"]:
    texts = [template.replace("{}", name) for name in classes for template in templates]
    most, device = clip.config.text_config.max_position_embeddings, clip.device
    found = []
    with eval_mode(clip):
        for i in range(0, len(texts), _TEXTS):
            batch = tokenizer(texts[i : i + _TEXTS], padding=True, return_tensors="pt")
            ids, mask = batch["input_ids"], batch["attention_mask"]
            if ids.shape[1] > most:
                longest = texts[i + int(mask.sum(1).argmax())]
                raise UserError(
                    f"expected texts of at most {most} tokens, as the text tower takes, got "
                    f"{ids.shape[1]} in {longest[:60]!r}; shorten the class or the template"
                )
            texts_out = clip.get_text_features(ids.to(device), mask.to(device))
            found.append(_unit(texts_out.pooler_output))
    each = torch.cat(found).view(len(classes), len(templates), -1)
    return clip.logit_scale.exp() * (_unit(each.mean(1)) if len(templates) > 1 else each[:, 0])


def _unit(features: Float[Tensor, "n d"]) -> Float[Tensor, "n d"]:
    return features / features.norm(dim=-1, keepdim=True)
