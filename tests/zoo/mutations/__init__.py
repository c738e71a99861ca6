"""Models whose source was changed: what the facts have to say after each change."""

from mutations import (  # noqa: F401  they register their mutations
    dit_mutations,
    f5_tts_layers,
    f5_tts_mutations,
    flux_mutations,
    llama_mutations,
    llama_reach,
    rewritten,
    torch_mutations,
    transformers_mutations,
)
from mutations.case import MUTATIONS, Edit, Mutation
from mutations.models import SUBJECTS

__all__ = ["MUTATIONS", "SUBJECTS", "Edit", "Mutation"]
