"""Stands in for torchaudio.functional: a package, so that its submodule can be imported."""
