from .. import starred
from . import deep
from .deep import Deep

FOUND = [deep.__name__, starred.WHO, Deep.__name__]
