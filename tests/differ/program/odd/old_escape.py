# an escape that is none: a warning of the compiler
TEXT = "\d"
