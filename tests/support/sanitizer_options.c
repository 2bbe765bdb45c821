/*
 * Options of the sanitizers, compiled into the launcher that tests run: in the environment they would be seen by the
 * packed application, whose environment is compared.
 */
const char *__asan_default_options(void);
const char *__ubsan_default_options(void);

const char *
__asan_default_options(void)
{
	/* a process that execs or ends leaves its memory to the kernel */
	return "detect_leaks=0:detect_stack_use_after_return=1:strict_string_checks=1";
}

const char *
__ubsan_default_options(void)
{
	return "print_stacktrace=1";
}
