/* carrel: the table of its commands, help, and finding the command that was asked for. */
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "cli/command.h"
#include "cli/options.h"

#define SHARED_HELP                                                                           \
	"Options of every client command:\n"                                                  \
	"      --url URL          the server (CARREL_URL; default " OPTIONS_DEFAULT_URL ")\n" \
	"      --token-file FILE  holds the token (else CARREL_TOKEN; never on the command "  \
	"line)\n"                                                                             \
	"      --pool NAME        the session pool (default: the server's default pool)\n"    \
	"      --ca-file FILE     certificates to trust instead of the system's, for https\n" \
	"  -o, --output FORMAT    text, or json: one JSON document on stdout\n"

static const char exec_help[] =
    "carrel exec: run one cell and print its output as it comes, then its result.\n"
    "\n"
    "  carrel exec [OPTIONS] CODE\n"
    "  carrel exec [OPTIONS] -f FILE\n"
    "  carrel exec [OPTIONS] -            (code from stdin)\n"
    "  carrel exec [OPTIONS] --shell CMD  (pools of type Shell)\n"
    "\n"
    "  -s, --session ID       the session, made if there is none; it stays. Without it a new one\n"
    "                         is used and deleted afterwards\n"
    "  -f, --file FILE        the code\n"
    "  -t, --timeout SECONDS  time for the cell, at most what the pool allows\n"
    "\n" SHARED_HELP "\n"
    "Images are saved as carrel-ID-N.png in the current directory and named on stderr. Ctrl-C\n"
    "interrupts the cell, a second one gives up. On a terminal, control characters are escaped.\n"
    "Exit status: 0; 1 the code failed; 2 wrong use; 3 the server's side; 130 gave up; and the "
    "code's\n"
    "own, of sys.exit(N) or a command of a Shell pool.\n"
    "\n"
    "Example:\n"
    "  carrel exec --session demo 'x = 20'\n"
    "  carrel exec --session demo 'x + 22'\n";

static const char files_help[] =
    "carrel files: put files into a session, get them back, list and remove them.\n"
    "\n"
    "  carrel files put --session ID [--to DIR] LOCAL...\n"
    "  carrel files get --session ID [-O FILE|-] NAME\n"
    "  carrel files ls  --session ID [-r] [PATH]\n"
    "  carrel files rm  --session ID NAME\n"
    "\n"
    "  -s, --session ID         whose files (required)\n"
    "      --to DIR             where to put them, beneath /mnt/data\n"
    "  -O, --output-file FILE   where to save it; - is stdout. Default: NAME here\n"
    "  -r, --recursive          directories too, all the way down\n"
    "\n" SHARED_HELP "\n"
    "NAME may have directories: plots/a.png. A file appears under its name only when it is whole.\n"
    "\n"
    "Example:\n"
    "  carrel files put --session demo sales.csv\n"
    "  carrel files get --session demo report.xlsx -O /tmp/report.xlsx\n";

static const char sessions_help[] =
    "carrel sessions: list the pool's sessions, show one, end one.\n"
    "\n"
    "  carrel sessions ls\n"
    "  carrel sessions show ID\n"
    "  carrel sessions rm ID\n"
    "\n" SHARED_HELP "\n"
    "Example:\n"
    "  carrel sessions ls -o json\n"
    "  carrel sessions rm demo\n";

static const char logs_help[] =
    "carrel logs: follow the executions of a session, whoever sends them: output as it comes, "
    "then\n"
    "the value. It ends with the session, or with Ctrl-C, which interrupts nothing.\n"
    "\n"
    "  carrel logs [--all] SESSION\n"
    "\n"
    "  -a, --all              those that have ended before too, as far as the server keeps them\n"
    "\n" SHARED_HELP "\n"
    "With -o json the reply of each, one document after the other.\n"
    "\n"
    "Example:\n"
    "  carrel logs demo\n";

static const char status_help[] =
    "carrel status: a server at a glance: health, pools, what waits for a person; and of a server "
    "on\n"
    "this machine the worst line of `carrel doctor`, for the user who asks.\n"
    "\n"
    "  carrel status\n"
    "\n" SHARED_HELP "\n"
    "Example:\n"
    "  carrel status\n";

static const char pools_help[] = "carrel pools: the server's pools.\n"
				 "\n"
				 "  carrel pools [ls]\n"
				 "\n" SHARED_HELP "\n"
				 "Example:\n"
				 "  carrel pools\n";

static const char skills_help[] =
    "carrel skills: the skills that the token's sessions find. To fill a store: carrel store.\n"
    "\n"
    "  carrel skills [ls]\n"
    "  carrel skills show NAME\n"
    "  carrel skills rm NAME\n"
    "\n" SHARED_HELP "\n"
    "Example:\n"
    "  carrel skills show port_scan\n";

static const char artifacts_help[] =
    "carrel artifacts: what the token's sessions have saved.\n"
    "\n"
    "  carrel artifacts [ls]\n"
    "  carrel artifacts get NAME [-O FILE]    the bytes, to stdout or a file\n"
    "  carrel artifacts rm NAME\n"
    "\n" SHARED_HELP "\n"
    "Example:\n"
    "  carrel artifacts get report.json -O report.json\n";

static const char deps_help[] =
    "carrel deps: the packages that the token's sessions can import beside the server's own.\n"
    "\n"
    "  carrel deps [ls]\n"
    "  carrel deps add REQUIREMENT            put it into the list, and install it\n"
    "  carrel deps rm REQUIREMENT             take it out of the list\n"
    "  carrel deps sync                       install what is in the list\n"
    "\n" SHARED_HELP "\n"
    "Example:\n"
    "  carrel deps add 'humanize>=4'\n";

static const char approvals_help[] =
    "carrel approvals: what waits for a person, and the person's answer.\n"
    "\n"
    "  carrel approvals submit FILE|-|-c CODE [--wait]  submit code; prints its id\n"
    "  carrel approvals ls                              what waits, runs or is queued\n"
    "  carrel approvals show ID                         code, result and history\n"
    "  carrel approvals watch                           what waits, as it comes; at a terminal\n"
    "                                                   answer with y or n, and why\n"
    "  carrel approvals watch ID                        its history as it grows\n"
    "  carrel approvals approve ID\n"
    "  carrel approvals reject ID\n"
    "  carrel approvals cancel ID                       it is not wanted any more\n"
    "\n"
    "      --policy POLICY         submit: after, before, both or rules (the pool's)\n"
    "      --deadline TIME         submit: how long it may wait: 90s, 15m, 2h, 1d\n"
    "  -t, --timeout TIME          submit: of its run\n"
    "      --callback URL          submit: is told how it ended\n"
    "      --promote GLOB...       submit: files to save as artifacts; more after FILE\n"
    "      --promote-prefix PREFIX submit: of the artifacts' names\n"
    "      --key KEY               submit: the same key is submitted once\n"
    "      --wait                  submit: wait until it is final and show it\n"
    "      --state STATE           ls: of this state\n"
    "      --kind KIND             ls: code, or call\n"
    "  -a, --all                   ls: of every state\n"
    "      --reason TEXT           approve, reject, cancel: why\n"
    "      --by NAME               approve, reject, watch: who says so, beside the token's name\n"
    "      --stage STAGE           approve, reject: code or result, with the policy both\n"
    "\n" SHARED_HELP "\n"
    "ID may be the first four characters or more where no other id begins so. Control characters\n"
    "of others are shown as escapes. NO_COLOR keeps colours away. With -o json watch prints one\n"
    "document a line. Exit status: that of the other commands; with --wait, and of watch ID, 1\n"
    "unless it was approved.\n"
    "\n"
    "Example:\n"
    "  carrel approvals submit report.py --policy both --promote '*.pdf'\n"
    "  carrel approvals watch --by Ada\n";

static const char repl_help[] =
    "carrel repl: a Python prompt in a session.\n"
    "\n"
    "  carrel repl [--session ID] [--timeout SECONDS]\n"
    "\n"
    "  -s, --session ID       the session, made if there is none; it stays. Without it a new one\n"
    "                         is used and deleted at the end\n"
    "  -t, --timeout SECONDS  time for each cell\n"
    "\n" SHARED_HELP "\n"
    "A line that ends in ':' or leaves a bracket or a triple quote open goes on; a blank line "
    "ends\n"
    "a block. A paste is one cell, and runs at Enter. Tab completes names, Ctrl-C clears the line\n"
    "or interrupts the running cell, Ctrl-D ends. The history is kept in\n"
    "$XDG_STATE_HOME/carrel/history (default ~/.local/state/carrel/history). There is no -o json\n"
    "here.\n"
    "\n"
    "Example:\n"
    "  carrel repl --session demo\n";

static const char serve_help[] =
    "carrel serve: run the server.\n"
    "\n"
    "  carrel serve [OPTIONS]\n"
    "\n"
    "  -c, --config FILE      the configuration, in YAML: docs/configuration.md\n"
    "      --listen ADDR:PORT where to listen (127.0.0.1:8080); port 0 is any free one\n"
    "      --data-dir DIR     what it keeps (as root /var/lib/carrel, else ~/.local/share/carrel)\n"
    "      --isolation LEVEL  namespaces, the default, or landlock\n"
    "      --tls-cert FILE    serve https; PEM,\n"
    "      --tls-key FILE     and its key\n"
    "      --stop-at-eof      stop when standard input ends, too: a program that holds the other\n"
    "                         end of a pipe to it leaves no server behind, however it ends\n"
    "\n"
    "SIGTERM or SIGINT: stop in order. SIGHUP: take new tokens, TLS files and limits of pools.\n"
    "\n"
    "The token clients must send is CONTAINER_AUTH_TOKEN, or a token file, or the tokens of the\n"
    "configuration; without one the server does not start.\n"
    "\n"
    "Example:\n"
    "  CONTAINER_AUTH_TOKEN=$(openssl rand -hex 32) carrel serve --listen 127.0.0.1:8080\n";

static const char store_help[] =
    "carrel store: what a store of tools, skills, artifacts and dependencies holds.\n"
    "\n"
    "  carrel store bootstrap --source PATH --target STORE [--clear]   fill it from files\n"
    "  carrel store bootstrap --type deps --target STORE --deps REQUIREMENT...\n"
    "  carrel store list --target STORE\n"
    "  carrel store pull --target STORE --dest DIR                     write it to files\n"
    "  carrel store diff --source PATH --target STORE                  exit 1 if they differ\n"
    "  carrel store export --target STORE --dest DIR                   everything, to a new "
    "file store\n"
    "  carrel store import --source DIR --target STORE [--clear]       and back\n"
    "\n"
    "      --type TYPE      skills (the default), tools, deps or artifacts; export and import: "
    "all\n"
    "      --target STORE   a Redis URL (else REDIS_URL, which keeps a password out of ps), or\n"
    "                       the directory of a file store\n"
    "      --source PATH    a directory: *.py for skills, *.yaml for tools, any files for\n"
    "                       artifacts; for deps a file of requirements\n"
    "      --prefix PREFIX  of the type's keys (default: the type); of export and import the\n"
    "                       whole store's (default: py_code_mode), as in PREFIX:skills\n"
    "      --clear          take out what is there first\n"
    "      --ca-file FILE   certificates to trust instead of the system's, for rediss\n"
    "  -o, --output FORMAT  text, or json: one JSON document on stdout\n"
    "\n"
    "A Redis URL is redis://[[user]:password@]host[:port][/db], rediss://..., unix://PATH or\n"
    "host:port?ssl=true. What is wrong with a file is said with its line, and the file skipped.\n"
    "Exit status: 0; 1 differences, or files that were skipped; 2 wrong use; 3 the store.\n"
    "\n"
    "Example:\n"
    "  carrel store bootstrap --source skills --target redis://localhost --prefix "
    "myapp:skills\n"
    "  carrel store diff --source skills --target redis://localhost --prefix myapp:skills\n";

static const char doctor_help[] =
    "carrel doctor: say, wall by wall, what isolation this host gives and how to mend the rest.\n"
    "\n"
    "  carrel doctor [--config FILE] [--isolation namespaces|landlock]\n"
    "\n"
    "Exit status: not 0 where the configured level cannot be given.\n"
    "\n"
    "Example:\n"
    "  carrel doctor --isolation landlock\n";

static const char tools_help[] =
    "carrel tools: the server's tools; and the files that define tools, as a server would see "
    "them.\n"
    "Nothing is run.\n"
    "\n"
    "  carrel tools ls                        what the server has\n"
    "  carrel tools check [DIR|FILE]\n"
    "  carrel tools list [DIR|FILE]\n"
    "\n"
    "Without an operand: TOOLS_PATH and TOOLS_CONFIG of the environment. check prints each "
    "problem\n"
    "as file:line: reason; its exit status is 1 when there is one.\n"
    "\n"
    "Example:\n"
    "  carrel tools check /etc/carrel/tools\n";

static const char audit_help[] =
    "carrel audit: the trail of approvals: who did what, when, and how it ended. On the server's\n"
    "machine: it opens the database itself, and changes nothing; the server may run meanwhile.\n"
    "\n"
    "  carrel audit verify [--head SEQ:HASH]             is it whole, and true of the approvals?\n"
    "  carrel audit export [--after SEQ] [-O FILE|-]     as JSON lines, the oldest first\n"
    "\n"
    "  -c, --config FILE       the server's configuration, which names the database\n"
    "      --data-dir DIR      the server's, where the database is unless it is named\n"
    "      --database URL      sqlite:PATH or postgresql://...; CARREL_DATABASE_URL keeps a\n"
    "                          password out of ps\n"
    "      --head SEQ:HASH     an end that was kept: that record must be there as it was\n"
    "      --after SEQ         only what follows this record\n"
    "  -O, --output-file FILE  where to write; - is stdout, the default\n"
    "  -o, --output FORMAT     text, or json: one JSON document on stdout (verify)\n"
    "\n"
    "verify prints how many records there are and the end to keep, or names the first that is "
    "wrong,\n"
    "and each approval that is not what its events add up to, or what the trail says of it.\n"
    "Exit status: 0; 1 something is wrong; 2 wrong use; 3 the database.\n"
    "\n"
    "Example:\n"
    "  carrel audit verify --config /etc/carrel/carrel.yaml\n"
    "  carrel audit export --data-dir /var/lib/carrel --after 1200 -O trail.jsonl\n";

static const char version_help[] = "carrel version: the client's version and its libraries'.\n"
				   "\n"
				   "  carrel version [-o json]\n"
				   "\n"
				   "Example:\n"
				   "  carrel version -o json\n";

static const struct command commands[] = {
    {"exec", "run one cell", exec_help, cmd_exec},
    {"repl", "a Python prompt in a session", repl_help, cmd_repl},
    {"logs", "follow a session's executions", logs_help, cmd_logs},
    {"status", "a server at a glance", status_help, cmd_status},
    {"files", "put, get, list and remove a session's files", files_help, cmd_files},
    {"sessions", "list, show and end sessions", sessions_help, cmd_sessions},
    {"pools", "list the server's pools", pools_help, cmd_pools},
    {"skills", "list, show and remove skills", skills_help, cmd_skills},
    {"artifacts", "list, get and remove artifacts", artifacts_help, cmd_artifacts},
    {"deps", "list, add and remove dependencies", deps_help, cmd_deps},
    {"approvals", "submit code, and decide what waits for a person", approvals_help, cmd_approvals},
    {"store", "fill, list, compare and copy stores", store_help, cmd_store},
    {"serve", "run the server", serve_help, cmd_serve},
    {"doctor", "say what isolation this host gives", doctor_help, cmd_doctor},
    {"tools", "list the server's tools; check files of tools", tools_help, cmd_tools},
    {"audit", "verify and export the trail of approvals", audit_help, cmd_audit},
    {"version", "print the version", version_help, cmd_version},
};

static const struct command *find_command(const char *name)
{
	for (size_t i = 0; i < array_len(commands); i++) {
		if (strcmp(commands[i].name, name) == 0) {
			return &commands[i];
		}
	}
	return NULL;
}

static void print_overview(FILE *to)
{
	(void)fputs("carrel: isolated Python sessions, served and used.\n\n"
		    "  carrel COMMAND [OPTIONS] ...\n\n",
	    to);
	for (size_t i = 0; i < array_len(commands); i++) {
		(void)fprintf(to, "  %-10s %s\n", commands[i].name, commands[i].summary);
	}
	(void)fputs("  help       this page, or a command's: carrel help COMMAND\n\n" SHARED_HELP
		    "\n"
		    "Example:\n"
		    "  carrel exec '1 + 1'\n",
	    to);
}

static int unknown_command(const char *name)
{
	const char *names[array_len(commands)];
	for (size_t i = 0; i < array_len(commands); i++) {
		names[i] = commands[i].name;
	}
	const char *near = command_nearest(name, names, array_len(commands));
	(void)fprintf(stderr, "carrel: there is no command '%s'; %s%s%stry 'carrel help'\n", name,
	    near != NULL ? "did you mean '" : "", near != NULL ? near : "",
	    near != NULL ? "'? Else " : "");
	return CLI_EXIT_USAGE;
}

static int print_help(const char *name)
{
	if (name == NULL) {
		print_overview(stdout);
	} else {
		const struct command *command = find_command(name);
		if (command == NULL) {
			return unknown_command(name);
		}
		(void)fputs(command->help, stdout);
	}
	return fflush(stdout) == 0 ? CLI_EXIT_OK : CLI_EXIT_USER;
}

static bool is_help(const char *word)
{
	return strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0;
}

/* --help anywhere before "--". */
static bool wants_help(int argc, char **argv)
{
	for (int i = 0; i < argc && strcmp(argv[i], "--") != 0; i++) {
		if (is_help(argv[i])) {
			return true;
		}
	}
	return false;
}

/* Puts the command's name first and what stood before it behind it: `carrel --url U exec C` means
 * `carrel exec --url U C`. */
static void bring_to_front(char **words, int at)
{
	char *name = words[at];
	memmove(words + 1, words, (size_t)at * sizeof(*words));
	words[0] = name;
}

int main(int argc, char **argv)
{
	if (argc < 2) {
		print_overview(stderr);
		return CLI_EXIT_USAGE;
	}
	if (is_help(argv[1]) || strcmp(argv[1], "help") == 0) {
		return print_help(argc > 2 ? argv[2] : NULL);
	}
	if (strcmp(argv[1], "--version") == 0) {
		static char version[] = "version";
		argv[1] = version;
	}
	struct err e;
	int at = options_command_at(argc, argv, &e);
	if (at < 0 || at == argc) {
		const char *text = at < 0 ? e.text : "no command";
		(void)fprintf(stderr, "carrel: %s; try 'carrel help'\n", text);
		return CLI_EXIT_USAGE;
	}
	const struct command *command = find_command(argv[at]);
	if (command == NULL) {
		return unknown_command(argv[at]);
	}
	if (wants_help(argc - at, argv + at)) {
		return print_help(command->name);
	}
	bring_to_front(argv + 1, at - 1);
	return command->run(argc - 1, argv + 1);
}
