"""fatpar's packer: builds one executable file from a Python program, for many Pythons and Linux hosts."""

__version__ = "0.1.0"
