WHO = "b"
import sys  # noqa: E402

__import__("odd.circle_a")
A = sys.modules["odd.circle_a"]
