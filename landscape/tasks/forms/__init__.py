"""How examples of each kind are read, trained on and judged: a record each."""

from collections.abc import Sequence

from landscape.tasks.example import AnyExample
from landscape.tasks.forms.candidates import CANDIDATES
from landscape.tasks.forms.completions import COMPLETIONS
from landscape.tasks.forms.form import Form
from landscape.tasks.forms.images import IMAGES
from landscape.tasks.forms.tags import TAGS
from landscape.tasks.forms.texts import TEXTS

FORMS = {form.kind: form for form in (CANDIDATES, COMPLETIONS, TEXTS, TAGS, IMAGES)}


def form_of(examples: Sequence[AnyExample]) -> Form:
    """Return the form of examples, all of one kind and at least one."""
    return FORMS[type(examples[0])]
