"""A local AWS: the synthesized template, the handlers' own bundle and real engines, on one machine."""
