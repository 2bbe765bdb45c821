import time

EXECUTED = globals().get("EXECUTED", 0) + 1
time.sleep(0.05)
