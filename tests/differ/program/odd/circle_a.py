WHO = "a"
import sys  # noqa: E402

__import__("odd.circle_b")
B = sys.modules["odd.circle_b"]
