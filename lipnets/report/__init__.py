"""Reports: records of an evaluation as figures and one self-contained page."""

__all__ = [
    "Facts",
    "comparison_figures",
    "comparison_page",
    "data_uri",
    "figures",
    "page",
    "png",
    "summary",
    "svg_file",
]

from .comparison import comparison_figures, comparison_page
from .drawing import png, svg_file
from .page import Facts, figures, page
from .pictures import data_uri
from .summary import summary
