__all__ = ["shown"]
shown, hidden = 1, 2
WHO = "starred"
