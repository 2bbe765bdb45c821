# ZSTD_DIR with zstd.c, zstd.h and LICENSE: zstd in a single file, from the pinned source in zstd-source.txt.
# It lies in the cache, not in the build directory: zig then knows what it compiled for another build.
set(ZSTD_DIR "${FATPAR_CACHE}/zstd")
set(ZSTD_FILES "${ZSTD_DIR}/zstd.c" "${ZSTD_DIR}/zstd.h" "${ZSTD_DIR}/zstd_errors.h" "${ZSTD_DIR}/LICENSE")
set(pin "${CMAKE_SOURCE_DIR}/cmake/zstd-source.txt")
set(fetch "${CMAKE_SOURCE_DIR}/cmake/fetch_zstd.py")
add_custom_command(
	OUTPUT ${ZSTD_FILES}
	COMMAND "${Python_EXECUTABLE}" "${fetch}" --pin "${pin}" --cache "${FATPAR_CACHE}" "${ZSTD_DIR}"
	DEPENDS "${fetch}" "${pin}"
	COMMENT "Fetching the zstd source"
	VERBATIM
)
add_custom_target(zstd-source DEPENDS ${ZSTD_FILES})
