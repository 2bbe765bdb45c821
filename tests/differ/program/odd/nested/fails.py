raise ImportError("it fails")
