/*
 * Text as it can be shown: what would move a terminal's cursor, hide something, or break a line is \xNN, each byte of
 * it, but for one character that is kept (a line's end, where the text has several) or NUL. The caller frees it.
 */
char *printable(const char *, char kept);
