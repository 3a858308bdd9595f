#include "engine/verdict.h"

static const char *const names[VERDICT_COUNT] = {
    [VERDICT_NONE] = "none",
    [VERDICT_SUCCEEDED] = "succeeded",
    [VERDICT_EXCEPTION] = "exception",
    [VERDICT_EXITED] = "exited",
    [VERDICT_TIME_LIMIT] = "time_limit",
    [VERDICT_MEMORY_LIMIT] = "memory_limit",
    [VERDICT_PROCESS_LIMIT] = "process_limit",
    [VERDICT_FILE_SPACE_LIMIT] = "file_space_limit",
    [VERDICT_OPEN_FILES_LIMIT] = "open_files_limit",
    [VERDICT_OUTPUT_LIMIT] = "output_limit",
    [VERDICT_INTERRUPTED] = "interrupted",
    [VERDICT_SESSION_KILLED] = "session_killed",
};

const char *verdict_name(enum verdict v)
{
	return names[v];
}
