WHO = "unwritten"
