WHO = "extra"
