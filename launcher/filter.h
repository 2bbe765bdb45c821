/*
 * The filter for x86-64 machine code: the operands of calls, jumps and RIP-relative accesses, which count from the
 * instruction, become ones that count from the start of the file, so that two accesses to one place look alike to a
 * compressor. In place, and exactly undone; FORMAT.md, section 5.5, has the rule.
 */
void filterx86(uint8_t *, size_t, int undo);
