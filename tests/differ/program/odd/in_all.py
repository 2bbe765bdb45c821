WHO = "named in __all__"
