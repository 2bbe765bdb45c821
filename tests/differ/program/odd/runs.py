import sys

FOUND = [__name__, __package__, __file__, str(type(globals().get("__loader__"))), sys.argv[0], sorted(globals())]
spec = globals().get("__spec__")
FOUND.append([spec.name, spec.origin] if spec else None)
