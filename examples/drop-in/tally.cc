// tally [-k FIELD] [FILE...]: how often each value of a field is there, most frequent first.
#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <unistd.h>
#include <unordered_map>
#include <utility>
#include <vector>

static volatile sig_atomic_t interrupted;

static void interrupt(int) { interrupted = 1; }

static const char usage[] = "usage: tally [-k FIELD] [FILE...]\n";

using Counts = std::unordered_map<std::string, unsigned long>;

// fields are what blanks and tabs separate; a line that has not so many is not counted
static void count_line(const std::string &line, unsigned long field, Counts &counts)
{
	size_t at = 0, end;

	for (;; at = end) {
		at = line.find_first_not_of(" \t", at);
		if (at == std::string::npos)
			return;
		end = std::min(line.find_first_of(" \t", at), line.size());
		if (--field == 0)
			break;
	}
	++counts[line.substr(at, end - at)];
}

static bool count_file(int fd, unsigned long field, Counts &counts)
{
	char data[1 << 16];
	std::string line;
	ssize_t n;

	while (!interrupted) {
		n = read(fd, data, sizeof(data));
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return false;
		if (n == 0)
			break;
		for (ssize_t i = 0; i < n; i++)
			if (data[i] == '\n') {
				count_line(line, field, counts);
				line.clear();
			} else
				line += data[i];
	}
	if (!interrupted)
		count_line(line, field, counts);
	return true;
}

static int complain(const char *name)
{
	fprintf(stderr, "tally: %s: %s\n", name, strerror(errno));
	return 1;
}

int main(int argc, char **argv)
{
	unsigned long field = 1;
	struct sigaction action = {};
	Counts counts;
	int option, status = 0;

	if (argc == 2 && strcmp(argv[1], "--version") == 0) {
		puts("tally 1.4");
		return 0;
	}
	while ((option = getopt(argc, argv, ":k:")) != -1) {
		char *end = nullptr;

		if (option == 'k')
			field = strtoul(optarg, &end, 10);
		if (option != 'k' || *end || field == 0) {
			fputs(usage, stderr);
			return 2;
		}
	}
	// what was counted so far is still worth something
	action.sa_handler = interrupt;
	sigaction(SIGINT, &action, nullptr);
	if (optind == argc && !count_file(0, field, counts))
		return complain("standard input");
	for (int i = optind; i < argc && !interrupted; i++) {
		FILE *file = fopen(argv[i], "r");

		if (!file || !count_file(fileno(file), field, counts))
			status = complain(argv[i]);
		if (file)
			fclose(file);
	}
	std::vector<std::pair<std::string, unsigned long>> all(counts.begin(), counts.end());
	std::sort(all.begin(), all.end(), [](const auto &a, const auto &b) {
		return a.second != b.second ? a.second > b.second : a.first < b.first;
	});
	for (const auto &one : all) {
		printf("%lu\t", one.second);
		fwrite(one.first.data(), 1, one.first.size(), stdout);
		putchar('\n');
	}
	if (fflush(stdout) != 0)
		return complain("standard output");
	return interrupted ? 130 : status;
}
