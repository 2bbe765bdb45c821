from __future__ import absolute_import

import json

THEIRS = json.__name__ + str(hasattr(json, "dumps"))
OURS = __name__
