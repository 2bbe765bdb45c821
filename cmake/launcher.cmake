# add_launcher() and the flags of each kind of build of launcher/*.c.
file(GLOB LAUNCHER_SOURCES RELATIVE "${CMAKE_SOURCE_DIR}" CONFIGURE_DEPENDS launcher/*.c)
list(REMOVE_ITEM LAUNCHER_SOURCES launcher/shim.c) # becomes data of launcher/identity.c
file(GLOB LAUNCHER_HEADERS CONFIGURE_DEPENDS launcher/*.h)
file(GLOB ABI_FILES CONFIGURE_DEPENDS abi/*.h abi/*.toml)
file(GLOB ABI_HOSTS CONFIGURE_DEPENDS abi/hosts/*.toml)
set(LIBRARY_SOURCES ${LAUNCHER_SOURCES})
list(REMOVE_ITEM LIBRARY_SOURCES launcher/main.c)

set(WARNINGS
	-Werror -Wall -Wextra -Wpedantic
	-Wcast-qual -Wconversion -Wformat=2 -Wmissing-prototypes -Wpointer-arith -Wshadow -Wstrict-prototypes
	-Wswitch-enum -Wundef -Wvla -Wwrite-strings
	-Wno-sign-conversion # sizes and offsets from the system come signed; only lost bits are worth a cast
)

# -Os, never less: zig links UBSan into a build without optimisation. Nothing unwinds the stack: 21 KB less.
set(RELEASE_FLAGS
	-Os -ffunction-sections -fdata-sections -fstack-protector-strong -fno-unwind-tables -fno-asynchronous-unwind-tables
)
set(RELEASE_FINAL -s -Wl,--gc-sections -Wl,--build-id=none)
# -Bsymbolic: our names are short, and Python's process may hold others of the same name
set(SHARED_FINAL -shared -Wl,-Bsymbolic)
# zstd with AddressSanitizer only, which sees a wrong size that we pass; a find ends the process, so no test passes it over
set(SANITIZED_FLAGS -O1 -fno-omit-frame-pointer -fsanitize=address)
set(SANITIZED_FINAL -g -fsanitize=undefined -fno-sanitize-recover=all)

# add_shim(<output> CC <command>...)
#
# Builds launcher/shim.c into a library that no C library is linked to, since it is loaded beside any.
function(add_shim output)
	cmake_parse_arguments(PARSE_ARGV 1 arg "" "" "CC")
	set(file "${CMAKE_BINARY_DIR}/${output}")
	add_custom_command(
		OUTPUT "${file}"
		# in two steps: zig has no headers of a C library that is not linked
		COMMAND ${arg_CC} -std=c11 -D_GNU_SOURCE ${WARNINGS} ${RELEASE_FLAGS} -ffreestanding -fno-stack-protector -fPIC
			-fvisibility=hidden -c launcher/shim.c -o "${file}.o"
		COMMAND ${arg_CC} -shared -nostdlib ${RELEASE_FINAL} "${file}.o" -o "${file}"
		WORKING_DIRECTORY "${CMAKE_SOURCE_DIR}"
		DEPENDS launcher/shim.c launcher/identity.h
		COMMENT "Building ${output}"
		VERBATIM
	)
endfunction()

# add_agent(<output> CC <command>...)
#
# Builds agent/agent.c, which runs programs on hosts for `packer matrix --run`, into a static program.
function(add_agent output)
	cmake_parse_arguments(PARSE_ARGV 1 arg "" "" "CC")
	set(file "${CMAKE_BINARY_DIR}/${output}")
	add_custom_command(
		OUTPUT "${file}"
		COMMAND ${arg_CC} -std=c11 -D_GNU_SOURCE ${WARNINGS} ${RELEASE_FLAGS} agent/agent.c ${RELEASE_FINAL}
			-static -no-pie -o "${file}"
		WORKING_DIRECTORY "${CMAKE_SOURCE_DIR}"
		DEPENDS agent/agent.c
		COMMENT "Building ${output}"
		VERBATIM
	)
	add_custom_target(build-${output} ALL DEPENDS "${file}")
endfunction()

# add_launcher(<output> [TEST] SHIM <file> CC <command>... SOURCES <file>... FLAGS <flag>... FINAL <flag>...)
#
# Builds <output> in the build directory out of SOURCES, the shim and zstd's decoder; FLAGS go to every call of the
# compiler, FINAL to the one that compiles SOURCES and links.
# TEST: not part of a plain build. The target is build-<output>, with - for /.
# Sources are named relative to the source directory, so no path of the machine gets into the output.
function(add_launcher output)
	cmake_parse_arguments(PARSE_ARGV 1 arg "TEST" "SHIM" "CC;SOURCES;FLAGS;FINAL")
	string(REPLACE "/" "-" target "build-${output}")
	set(file "${CMAKE_BINARY_DIR}/${output}")
	set(shim "${CMAKE_BINARY_DIR}/${arg_SHIM}")
	set(zstd "${CMAKE_BINARY_DIR}/zstd/${target}.o")
	cmake_path(GET file PARENT_PATH directory)
	file(MAKE_DIRECTORY "${directory}" "${CMAKE_BINARY_DIR}/zstd" "${ZSTD_DIR}")

	# hidden: what nobody calls, the compressor above all, is left out of the shared library too
	add_custom_command(
		OUTPUT "${zstd}"
		COMMAND ${arg_CC} -c zstd.c -o "${zstd}" ${arg_FLAGS} -fvisibility=hidden -DZSTDLIB_VISIBLE= -DZSTDERRORLIB_VISIBLE= -DZDICTLIB_VISIBLE=
		WORKING_DIRECTORY "${ZSTD_DIR}"
		DEPENDS "${ZSTD_DIR}/zstd.c"
		COMMENT "Compiling zstd for ${output}"
		VERBATIM
	)
	add_custom_command(
		OUTPUT "${file}"
		COMMAND ${arg_CC} -std=c11 -D_GNU_SOURCE -pthread ${WARNINGS} ${arg_FLAGS} "-DSHIM=\"${shim}\""
			-Iabi -Ilauncher -isystem "${ZSTD_DIR}" ${arg_SOURCES} "${zstd}" ${arg_FINAL} -o "${file}"
		WORKING_DIRECTORY "${CMAKE_SOURCE_DIR}"
		DEPENDS ${arg_SOURCES} ${LAUNCHER_HEADERS} ${ABI_FILES} ${ZSTD_FILES} "${shim}" "${zstd}"
		COMMENT "Building ${output}"
		VERBATIM
	)
	if(arg_TEST)
		add_custom_target(${target} DEPENDS "${file}")
	else()
		add_custom_target(${target} ALL DEPENDS "${file}")
	endif()
	add_dependencies(${target} zstd-source) # one fetch, whatever the generator
endfunction()
