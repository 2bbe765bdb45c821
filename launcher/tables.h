/* The rules that the tables of an index keep, one another's numbers above all; abi/FORMAT.md section 5 has them. */

struct archive;

/* check every table after all were found: after ARCHIVE_OK every reference is in bounds */
enum archive_status checktables(struct archive *);

/* say what is wrong with a record of a table: ARCHIVE_DAMAGED */
enum archive_status indexdamaged(struct archive *, const char *table, uint32_t record, const char *what);

/* whether a path may stand in a layer or a view: relative, no empty, "." or ".." component, not too long */
int pathissafe(const char *);
