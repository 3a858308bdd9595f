/*
 * verdict: how an execution ended, in one vocabulary for every dialect, log line and metric.
 */
#ifndef ENGINE_VERDICT_H
#define ENGINE_VERDICT_H

enum verdict {
	VERDICT_NONE,             /* not ended */
	VERDICT_SUCCEEDED,        /* ran to its end */
	VERDICT_EXCEPTION,        /* an exception of the user's code, or a non-zero shell status */
	VERDICT_EXITED,           /* sys.exit(); the session lives on */
	VERDICT_TIME_LIMIT,       /* past its deadline */
	VERDICT_MEMORY_LIMIT,     /* MemoryError, or killed at the memory limit */
	VERDICT_PROCESS_LIMIT,    /* no more processes or threads */
	VERDICT_FILE_SPACE_LIMIT, /* no more room for files, or for one file */
	VERDICT_OPEN_FILES_LIMIT, /* no more descriptors in a process */
	VERDICT_OUTPUT_LIMIT,     /* ran to its end, but its output was cut */
	VERDICT_INTERRUPTED,      /* by the caller, or because the caller went away */
	VERDICT_SESSION_KILLED,   /* the session ended under it: os._exit, a crash, a deletion */
	VERDICT_COUNT,
};

/* "succeeded", "exception", "time_limit", ... ; "none" for VERDICT_NONE. */
const char *verdict_name(enum verdict v);

#endif
