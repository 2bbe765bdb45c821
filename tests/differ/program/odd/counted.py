COUNT = globals().get("COUNT", 0) + 1
WHO = "counted"
