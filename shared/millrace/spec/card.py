"""What only people know about a model, for its card."""

from millrace.spec.data import Prose
from millrace.spec.part import SpecPart


class CardSpec(SpecPart):
    """What only people know about a model; paragraphs of plain text.

    Parameters
    ----------
    owner, contact : str, default=""
        Who answers for the model, and where to reach them.
    intended_use, out_of_scope, limitations, ethical_considerations : str, default=""
        Sections of Mitchell et al., "Model Cards for Model Reporting", FAT* 2019.
    """

    owner: Prose = ""
    contact: Prose = ""
    intended_use: Prose = ""
    out_of_scope: Prose = ""
    limitations: Prose = ""
    ethical_considerations: Prose = ""
