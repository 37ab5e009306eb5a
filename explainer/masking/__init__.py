"""What is private in a text that is bound for a model, hidden and put back. Pure."""

from explainer.masking.masker import REDACTED, Masker, redacted
from kubewhy.kube.naming import Name

__all__ = ["REDACTED", "Masker", "Name", "redacted"]
