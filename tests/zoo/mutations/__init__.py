"""Models whose source was changed: what the facts have to say after each change."""

from mutations import (  # noqa: F401  they register their mutations
    dit_mutations,
    f5_tts_mutations,
    flux_mutations,
    llama_mutations,
    torch_mutations,
    transformers_mutations,
)
from mutations.case import MUTATIONS, Citation, Mutation
from mutations.models import SUBJECTS

__all__ = ["MUTATIONS", "SUBJECTS", "Citation", "Mutation"]
