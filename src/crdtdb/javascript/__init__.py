"""JavaScript of design documents, in processes of its own: with no file, no network, little memory and little time."""

from crdtdb.javascript.scripts import Emission, Function, Refusal, Scripts

__all__ = ["Emission", "Function", "Refusal", "Scripts"]
