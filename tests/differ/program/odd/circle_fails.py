from odd.circle_fails_too import name  # noqa: F401

other = 1
