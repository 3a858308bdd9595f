#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <marshal.h>

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

#include "base/fd.h"
#include "keeper/arena.h"
#include "keeper/host_module.h"
#include "keeper/image.h"
#include "keeper/prelude_sources.h"
#include "keeper/python.h"

#define PACKAGES_MAX_BYTES 65536
/* More than the interpreter needs to have replaced the instructions of what runs, and to have
 * filled its tables. */
#define REHEARSALS 64

static PyObject *prelude; /* the module _carrel */
static PyObject *run_cell, *run_shell;
static struct buf packages_told = BUF_INIT(PACKAGES_MAX_BYTES); /* by python_show_packages, last */

/* --- start --------------------------------------------------------------------------------------
 */

/* Turns the current Python exception into E. */
static int python_error(struct err *e, const char *what)
{
	PyObject *type;
	PyObject *value;
	PyObject *trace;
	PyErr_Fetch(&type, &value, &trace);
	PyObject *text = value != NULL ? PyObject_Str(value) : NULL;
	const char *s = text != NULL ? PyUnicode_AsUTF8(text) : NULL;
	(void)err_set(e, ERR_INTERNAL, "%s: %s", what, s != NULL ? s : "unknown error");
	Py_XDECREF(text);
	Py_XDECREF(type);
	Py_XDECREF(value);
	Py_XDECREF(trace);
	PyErr_Clear();
	return -1;
}

/* Isolated from the environment and the user's directory, but with Python's signal handlers: SIGINT
 * is how a cell is interrupted. */
static int start_interpreter(struct err *e)
{
	PyConfig config;
	PyConfig_InitIsolatedConfig(&config);
	config.install_signal_handlers = 1;
	config.pathconfig_warnings = 0;
	PyPreConfig pre;
	PyPreConfig_InitIsolatedConfig(&pre);
	pre.utf8_mode = 1;
	PyStatus status = Py_PreInitialize(&pre);
	if (!PyStatus_Exception(status)) {
		status = PyConfig_SetBytesString(&config, &config.program_name, CARREL_PYTHON);
	}
	if (!PyStatus_Exception(status)) {
		status = PyConfig_SetBytesString(&config, &config.executable, CARREL_PYTHON);
	}
	if (!PyStatus_Exception(status)) {
		status = Py_InitializeFromConfig(&config);
	}
	PyConfig_Clear(&config);
	if (PyStatus_Exception(status)) {
		return err_set(e, ERR_INTERNAL, "Python does not start: %s",
		    status.err_msg != NULL ? status.err_msg : "unknown error");
	}
	return 0;
}

static PyObject *sources_dict(void)
{
	PyObject *dict = PyDict_New();
	for (size_t i = 0; dict != NULL && i < prelude_source_count; i++) {
		const struct prelude_source *s = &prelude_sources[i];
		PyObject *code = PyMarshal_ReadObjectFromString(s->code, (Py_ssize_t)s->len);
		if (code == NULL || PyDict_SetItemString(dict, s->name, code) < 0) {
			Py_CLEAR(dict);
		}
		Py_XDECREF(code);
	}
	return dict;
}

/* The loader's own source is the one module that nothing can import yet. */
static int install_loader(void)
{
	PyObject *sources = sources_dict();
	if (sources == NULL) {
		return -1;
	}
	PyObject *code = PyDict_GetItemString(sources, "_carrel.loader");
	PyObject *module = code == NULL ? NULL : PyImport_ExecCodeModule("_carrel.loader", code);
	PyObject *done = module == NULL ? NULL
					: PyObject_CallMethod(module, "install", "O", sources);
	int r = done == NULL ? -1 : 0;
	Py_XDECREF(done);
	Py_XDECREF(module);
	Py_DECREF(sources);
	return r;
}

int python_start(struct err *e)
{
	if (PyImport_AppendInittab("_carrel_host", host_module_init) < 0) {
		return err_set(e, ERR_INTERNAL, "Python has no room for a module");
	}
	host_module_set_pid(getpid());
	arena_install();
	if (start_interpreter(e) < 0) {
		return -1;
	}
	/* Imports make hardly any garbage and many objects: collections only take time. */
	(void)PyGC_Disable();
	if (install_loader() < 0) {
		return python_error(e, "the prelude's loader");
	}
	prelude = PyImport_ImportModule("_carrel");
	if (prelude == NULL) {
		return python_error(e, "the prelude");
	}
	run_cell = PyObject_GetAttrString(prelude, "run_cell");
	run_shell = PyObject_GetAttrString(prelude, "run_shell");
	if (run_cell == NULL || run_shell == NULL) {
		return python_error(e, "the prelude");
	}
	/* What is uploaded can be imported, as in a notebook. */
	PyObject *path = PySys_GetObject("path");
	PyObject *here = PyUnicode_FromString("");
	if (path == NULL || here == NULL || PyList_Insert(path, 0, here) < 0) {
		return python_error(e, "sys.path");
	}
	Py_DECREF(here);
	return 0;
}

/* Calls a function of the prelude whose answer nobody needs. */
static void call_prelude(const char *name)
{
	PyObject *r = PyObject_CallMethod(prelude, name, NULL);
	Py_XDECREF(r);
	PyErr_Clear();
}

void python_set_packages_dir(const char *path, bool may_add)
{
	PyObject *r = *path == '\0' ? NULL
				    : PyObject_CallMethod(prelude, "packages_at", "sO", path,
					  may_add ? Py_True : Py_False);
	Py_XDECREF(r);
	PyErr_Clear();
}

static int count_threads(void)
{
	int count = 0;
	DIR *d = opendir("/proc/self/task");
	if (d == NULL) {
		return 1; /* without /proc there is nothing to count */
	}
	for (struct dirent *entry; (entry = readdir(d)) != NULL;) {
		count += entry->d_name[0] != '.';
	}
	(void)closedir(d);
	return count;
}

static void note_failed_imports(PyObject *answers, struct buf *warning)
{
	for (Py_ssize_t i = 0; i < PyList_GET_SIZE(answers); i++) {
		const char *name;
		const char *version;
		const char *error;
		if (!PyArg_ParseTuple(
			PyList_GET_ITEM(answers, i), "sss", &name, &version, &error)) {
			PyErr_Clear();
			continue;
		}
		if (*error != '\0') {
			(void)buf_addf(
			    warning, "%s%s (%s)", warning->len > 0 ? ", " : "", name, error);
		}
	}
}

int python_preload(const char *const *names, uint32_t count, struct buf *warning, struct err *e)
{
	PyObject *list = PyList_New(0);
	for (uint32_t i = 0; list != NULL && i < count; i++) {
		PyObject *name = PyUnicode_FromString(names[i]);
		if (name == NULL || PyList_Append(list, name) < 0) {
			Py_CLEAR(list);
		}
		Py_XDECREF(name);
	}
	PyObject *answers = list == NULL ? NULL
					 : PyObject_CallMethod(prelude, "preload", "O", list);
	Py_XDECREF(list);
	if (answers == NULL || !PyList_Check(answers)) {
		Py_XDECREF(answers);
		return python_error(e, "preload");
	}
	note_failed_imports(answers, warning);
	Py_DECREF(answers);
	if (count_threads() != 1) {
		return err_set(e, ERR_INVALID,
		    "the preloaded packages start threads of their own, so they cannot be forked; "
		    "take the one that does out of 'preload'");
	}
	return 0;
}

/* What is there is no longer looked through by collections. What of it is garbage stays: to find it
 * takes longer than it is worth. */
static int freeze(struct err *e)
{
	PyObject *gc = PyImport_ImportModule("gc");
	PyObject *frozen = gc == NULL ? NULL : PyObject_CallMethod(gc, "freeze", NULL);
	bool ok = frozen != NULL;
	Py_XDECREF(frozen);
	Py_XDECREF(gc);
	(void)PyGC_Enable();
	return ok ? 0 : python_error(e, "gc.freeze");
}

/* What a session does before it is sealed. Without a fork it changes nothing in a process of one
 * thread. */
static void start_session(void)
{
	PyOS_AfterFork_Child();
	call_prelude("after_fork");
	call_prelude("warm_up");
}

/* Descriptors 0, 1 and 2 of the keeper, while sessions' stand there. */
struct rehearsal {
	int saved[3];
	int written; /* where what is written to 1 and 2 is read, never waiting */
};

/* What a step after a fork may print is for nobody, and must not fill the pipe. */
static void rehearse(const struct rehearsal *r, int times)
{
	char nothing[4096];
	for (int i = 0; i < times; i++) {
		PyOS_BeforeFork();
		start_session();
		while (read(r->written, nothing, sizeof(nothing)) > 0) {
		}
	}
}

static int rehearsal_begin(struct rehearsal *r)
{
	cleanup(fd_close) int null = open("/dev/null", O_RDONLY | O_CLOEXEC);
	int ends[2];
	if (null < 0 || pipe2(ends, O_CLOEXEC | O_NONBLOCK) < 0) {
		return -errno;
	}
	cleanup(fd_close) int out = ends[1];
	r->written = ends[0];
	for (int fd = 0; fd < 3; fd++) {
		r->saved[fd] = fcntl(fd, F_DUPFD_CLOEXEC, 3);
		if (dup2(fd == 0 ? null : out, fd) < 0) {
			return -errno;
		}
	}
	return 0;
}

static void rehearsal_end(struct rehearsal *r)
{
	for (int fd = 0; fd < 3; fd++) {
		if (r->saved[fd] >= 0) {
			(void)dup2(r->saved[fd], fd);
			fd_close(&r->saved[fd]);
		}
	}
	fd_close(&r->written);
}

int python_settle(struct err *e)
{
	cleanup(rehearsal_end) struct rehearsal r = {{-1, -1, -1}, -1};
	int error = rehearsal_begin(&r);
	if (error < 0) {
		return err_set_os(e, -error, "the streams of sessions");
	}
	call_prelude("open_streams");
	if (freeze(e) < 0) {
		return -1;
	}
	rehearse(&r, REHEARSALS);
	arena_close_image();
	image_share();
	/* What every session looks at is mapped in the keeper now, and comes with a fork. */
	rehearse(&r, 1);
	return 0;
}

/* The UTF-8 of a str that is kept for good. */
static const char *keep_text(PyObject *text)
{
	Py_INCREF(text);
	const char *s = PyUnicode_AsUTF8(text);
	PyErr_Clear();
	return s != NULL ? s : "?";
}

void python_describe(struct ipc_keeper_ready *ready)
{
	PyObject *version = PyObject_CallMethod(prelude, "runtime_version", NULL);
	ready->python_version = version != NULL ? keep_text(version) : "?";
	PyObject *packages = PyObject_CallMethod(prelude, "packages", NULL);
	Py_ssize_t count = packages != NULL && PyList_Check(packages) ? PyList_GET_SIZE(packages)
								      : 0;
	ready->package_count = 0;
	for (Py_ssize_t i = 0; i < count && i < IPC_PACKAGES_MAX; i++) {
		PyObject *name;
		PyObject *number;
		if (!PyArg_ParseTuple(PyList_GET_ITEM(packages, i), "UU", &name, &number)) {
			continue;
		}
		struct ipc_package *p = &ready->packages[ready->package_count++];
		p->name = keep_text(name);
		p->version = keep_text(number);
	}
	PyErr_Clear();
}

/* --- fork ---------------------------------------------------------------------------------------
 */

void python_before_fork(void)
{
	PyOS_BeforeFork();
}

void python_after_fork_parent(void)
{
	PyOS_AfterFork_Parent();
}

void python_start_session(void)
{
	arena_leave_image();
	host_module_set_pid(getpid());
	start_session();
}

/* --- running ------------------------------------------------------------------------------------
 */

void *python_release(void)
{
	return PyEval_SaveThread();
}

void python_reclaim(void *released)
{
	PyEval_RestoreThread(released);
	(void)PyErr_CheckSignals();
	PyErr_Clear();
}

static uint8_t kind_of(const char *name)
{
	static const char *const names[] = {
	    [IPC_KIND_NONE] = "none",
	    [IPC_KIND_NULL] = "null",
	    [IPC_KIND_BOOL] = "bool",
	    [IPC_KIND_INT] = "int",
	    [IPC_KIND_FLOAT] = "float",
	    [IPC_KIND_STR] = "str",
	    [IPC_KIND_OTHER] = "other",
	};
	for (uint8_t i = 0; i < array_len(names); i++) {
		if (strcmp(names[i], name) == 0) {
			return i;
		}
	}
	return IPC_KIND_OTHER;
}

static uint8_t limit_of(const char *name)
{
	static const char *const names[] = {
	    [IPC_LIMIT_NONE] = "",
	    [IPC_LIMIT_MEMORY] = "memory",
	    [IPC_LIMIT_PROCESSES] = "processes",
	    [IPC_LIMIT_FILE_SPACE] = "file_space",
	    [IPC_LIMIT_OPEN_FILES] = "files",
	};
	for (uint8_t i = 0; i < array_len(names); i++) {
		if (strcmp(names[i], name) == 0) {
			return i;
		}
	}
	return IPC_LIMIT_NONE;
}

/* What is told when the interpreter is in no state to say more itself, or was interrupted before it
 * came to the prelude's own guards. */
static void set_broken(struct python_result *out)
{
	static const char text[] = "the interpreter could not report what happened\n";
	bool interrupted = PyErr_Occurred() != NULL &&
			   PyErr_ExceptionMatches(PyExc_KeyboardInterrupt);
	PyErr_Clear();
	if (interrupted) {
		out->result.status = IPC_STATUS_INTERRUPTED;
		return;
	}
	out->result.status = IPC_STATUS_EXCEPTION;
	out->result.error_name = (struct ipc_bytes){"SystemError", 11};
	out->result.traceback = (struct ipc_bytes){text, sizeof(text) - 1};
}

static void take_cell(PyObject *answer, struct python_result *out)
{
	int status;
	int exit_code;
	const char *kind;
	const char *limit;
	const char *text[5];
	Py_ssize_t len[5];
	if (answer == NULL || !PyTuple_Check(answer) ||
	    !PyArg_ParseTuple(answer, "iss#s#s#s#s#si", &status, &kind, &text[0], &len[0], &text[1],
		&len[1], &text[2], &len[2], &text[3], &len[3], &text[4], &len[4], &limit,
		&exit_code)) {
		set_broken(out);
		return;
	}
	struct ipc_result *r = &out->result;
	struct ipc_bytes *fields[5] = {
	    &r->json, &r->text, &r->error_name, &r->error_value, &r->traceback};
	for (int i = 0; i < 5; i++) {
		*fields[i] = (struct ipc_bytes){text[i], (size_t)len[i]};
	}
	r->status = (uint8_t)status;
	r->kind = kind_of(kind);
	r->limit = limit_of(limit);
	r->exit_code = (uint32_t)exit_code;
}

static void take_shell(PyObject *answer, struct python_result *out)
{
	int exit_code;
	const char *limit;
	const char *text;
	Py_ssize_t len;
	if (answer == NULL || !PyTuple_Check(answer) ||
	    !PyArg_ParseTuple(answer, "iss#", &exit_code, &limit, &text, &len)) {
		set_broken(out);
		return;
	}
	struct ipc_result *r = &out->result;
	r->status = exit_code == 130 ? IPC_STATUS_INTERRUPTED : IPC_STATUS_OK;
	r->limit = limit_of(limit);
	if (r->limit != IPC_LIMIT_NONE) {
		r->status = IPC_STATUS_EXCEPTION;
	}
	r->exit_code = (uint32_t)exit_code;
	r->traceback = (struct ipc_bytes){text, (size_t)len};
}

/* The arguments of an ARGV execution: each ends with a NUL. */
static PyObject *argv_list(struct ipc_bytes code)
{
	PyObject *list = PyList_New(0);
	const char *at = code.data;
	const char *end = code.data + code.len;
	while (list != NULL && at < end) {
		size_t len = strnlen(at, (size_t)(end - at));
		PyObject *arg = PyUnicode_DecodeUTF8(at, (Py_ssize_t)len, "surrogateescape");
		if (arg == NULL || PyList_Append(list, arg) < 0) {
			Py_CLEAR(list);
		}
		Py_XDECREF(arg);
		at += len + 1;
	}
	return list;
}

static PyObject *call_shell(const struct ipc_execute *x)
{
	PyObject *command = NULL;
	PyObject *argv = NULL;
	if (x->kind == IPC_EXECUTE_SHELL) {
		command = PyUnicode_DecodeUTF8(
		    x->code.data, (Py_ssize_t)x->code.len, "surrogateescape");
	} else {
		argv = argv_list(x->code);
	}
	PyObject *answer = NULL;
	if (command != NULL || argv != NULL) {
		answer = PyObject_CallFunction(run_shell, "OOy#",
		    command != NULL ? command : Py_None, argv != NULL ? argv : Py_None,
		    x->standard_input.data, (Py_ssize_t)x->standard_input.len);
	}
	Py_XDECREF(command);
	Py_XDECREF(argv);
	return answer;
}

/* Each line of TEXT. */
static PyObject *lines_list(struct ipc_bytes text)
{
	PyObject *whole = PyUnicode_DecodeUTF8(text.data, (Py_ssize_t)text.len, "replace");
	PyObject *list = whole == NULL ? NULL : PyUnicode_Splitlines(whole, 0);
	Py_XDECREF(whole);
	return list;
}

bool python_show_packages(struct ipc_bytes names)
{
	bool same = names.len == packages_told.len &&
		    memcmp(names.data, buf_str(&packages_told), names.len) == 0;
	if (same) {
		return true;
	}
	PyObject *list = lines_list(names);
	PyObject *done = list == NULL ? NULL
				      : PyObject_CallMethod(prelude, "packages_changed", "O", list);
	bool ok = done != NULL;
	Py_XDECREF(done);
	Py_XDECREF(list);
	buf_clear(&packages_told);
	if (ok) {
		(void)buf_add(&packages_told, names.data, names.len);
	}
	return ok;
}

void python_execute(const struct ipc_execute *x, struct python_result *out)
{
	memset(out, 0, sizeof(*out));
	PyObject *answer;
	if (!python_show_packages(x->packages)) {
		set_broken(out);
		return;
	}
	if (x->kind == IPC_EXECUTE_PYTHON) {
		PyObject *code = PyUnicode_DecodeUTF8(
		    x->code.data, (Py_ssize_t)x->code.len, "replace");
		PyObject *empty = x->empty_namespace ? Py_True : Py_False;
		PyObject *values = x->values ? Py_True : Py_False;
		answer = code == NULL
			     ? NULL
			     : PyObject_CallFunctionObjArgs(run_cell, code, empty, values, NULL);
		Py_XDECREF(code);
		take_cell(answer, out);
	} else {
		answer = call_shell(x);
		take_shell(answer, out);
	}
	host_module_take_cut(&out->result);
	out->owner = answer;
}

void python_result_fini(struct python_result *r)
{
	Py_XDECREF((PyObject *)r->owner);
	r->owner = NULL;
}
