WHO = "bare"
