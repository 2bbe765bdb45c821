raise RuntimeError("a package that fails")
