"""Writing adapted models as the files that others read, and proving what was written."""

from surgery.exporting.export import FORMATS, export
from surgery.exporting.format import Exported

__all__ = ["FORMATS", "Exported", "export"]
