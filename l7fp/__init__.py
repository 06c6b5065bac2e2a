"""l7fp: service-mesh L7 policies compiled to eBPF, with an embedded proxy for the rest."""

__version__ = "0.1.0"
