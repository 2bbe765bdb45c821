WHO = "later"
