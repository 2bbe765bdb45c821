# ZIG_CC: the C compiler inside the Python package `ziglang`, as a command with its cache; give it -target.
execute_process(
	COMMAND "${Python_EXECUTABLE}" -c "import ziglang, pathlib; print(pathlib.Path(ziglang.__file__).with_name('zig'))"
	OUTPUT_VARIABLE zig OUTPUT_STRIP_TRAILING_WHITESPACE
	ERROR_QUIET
)
if(NOT zig)
	message(FATAL_ERROR "the compiler is missing: ${Python_EXECUTABLE} has no module ziglang\n"
		"hint: ${Python_EXECUTABLE} -m pip install ziglang, or -DPython_EXECUTABLE=<a Python that has it>")
endif()

# the first build for a target compiles its C library, about half a minute: worth keeping
set(zig_cache "${FATPAR_CACHE}/zig")
if(DEFINED ENV{ZIG_GLOBAL_CACHE_DIR})
	set(zig_cache "$ENV{ZIG_GLOBAL_CACHE_DIR}")
endif()
set(ZIG_CC "${CMAKE_COMMAND}" -E env "ZIG_GLOBAL_CACHE_DIR=${zig_cache}" "${zig}" cc)
