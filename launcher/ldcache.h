/* path of a library in /etc/ld.so.cache for a machine (e_machine), or NULL; the caller frees it */
char *ldcachefind(const char *soname, uint16_t machine);

/* the same in a cache that lies in memory */
char *ldcachesearch(const uint8_t *cache, size_t size, const char *soname, uint16_t machine);
