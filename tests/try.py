import sys

sys.path.insert(0, "/work/wt-arch/tests")
from pathlib import Path
from support.hosts import Host
import time

h = Host(sys.argv[1])
env = dict(e.split("=", 1) for e in sys.argv[3:] if "=" in e)
st = Path("/tmp/archt/state-" + sys.argv[1])
for i in range(2):
    t = time.time()
    r = h.run(["/opt/tool", "a", "", "x y"], binds={Path(sys.argv[2]): "/opt/tool"}, state=st, env=env)
    print(r.status, r.stdout.decode(), r.stderr.decode(), f"{time.time() - t:.2f}")
