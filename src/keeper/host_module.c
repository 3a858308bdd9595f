#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "keeper/host_module.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "keeper/host.h"
#include "keeper/python.h"

/* How long a wait goes on before it looks for signals: one may come just before it begins. */
#define WAIT_MS 50
#define PIECES_BETWEEN_POLLS 16

static python_display_fn send_display;
static pid_t session_pid;

void host_module_set_pid(pid_t pid)
{
	session_pid = pid;
}

void python_set_display(python_display_fn fn)
{
	send_display = fn;
}

/* OSError with that number; the prelude gives it words. */
static PyObject *fail(int r)
{
	errno = -r;
	return PyErr_SetFromErrno(PyExc_OSError);
}

static PyObject *host_display(PyObject *module, PyObject *items)
{
	(void)module;
	struct ipc_display d = {0};
	if (!PyTuple_Check(items) || PyTuple_GET_SIZE(items) > IPC_DISPLAY_ITEMS_MAX) {
		return PyErr_Format(PyExc_TypeError, "a tuple of at most %d items is wanted",
		    IPC_DISPLAY_ITEMS_MAX);
	}
	for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(items); i++) {
		const char *mime;
		const char *data;
		Py_ssize_t len;
		if (!PyArg_ParseTuple(PyTuple_GET_ITEM(items, i), "sy#", &mime, &data, &len)) {
			return NULL;
		}
		d.items[i].mime = mime;
		d.items[i].data = (struct ipc_bytes){data, (size_t)len};
		d.count++;
	}
	int r = send_display == NULL ? 0 : send_display(&d);
	return r < 0 ? fail(r) : Py_NewRef(Py_None);
}

static void interrupt(PyObject *capsule)
{
	(void)capsule;
	PyErr_SetInterrupt();
}

/* An object whose end is an interrupt of the main thread: what a finalizer has caught and may not
 * raise comes again behind it. */
static PyObject *host_interrupt_when_freed(PyObject *module, PyObject *args)
{
	(void)args;
	return PyCapsule_New(module, NULL, interrupt);
}

static PyObject *host_session_pid(PyObject *module, PyObject *args)
{
	(void)module;
	(void)args;
	return PyLong_FromLong(session_pid);
}

static PyObject *host_getenv(PyObject *module, PyObject *name)
{
	(void)module;
	const char *text = PyUnicode_AsUTF8(name);
	if (text == NULL) {
		return NULL;
	}
	const char *value = getenv(text);
	return value == NULL ? Py_NewRef(Py_None) : PyUnicode_DecodeFSDefault(value);
}

/* --- host calls ----------------------------------------------------------------------------------
 */

/* 0; 1 when it was answered before the end; -1 with a Python exception. */
static int put_all(uint64_t id, const char *bytes, size_t len)
{
	for (unsigned pieces = 1; len > 0; pieces++) {
		size_t n = len < IPC_PIECE_BYTES ? len : IPC_PIECE_BYTES;
		int r;
		Py_BEGIN_ALLOW_THREADS;
		r = host_put(id, bytes, n);
		if (r == 0 && pieces % PIECES_BETWEEN_POLLS == 0) {
			r = host_poll(); /* it may have been refused */
		}
		Py_END_ALLOW_THREADS;
		if (r < 0) {
			(void)fail(r);
			return -1;
		}
		if (PyErr_CheckSignals() < 0) {
			return -1;
		}
		if (r == 1) {
			return 1;
		}
		bytes += n;
		len -= n;
	}
	return 0;
}

/* call(method, arguments, data=None) -> number. DATA: an ASCII str, or a buffer. */
static PyObject *host_module_call(PyObject *module, PyObject *args)
{
	(void)module;
	const char *method;
	struct ipc_bytes json;
	Py_ssize_t json_len;
	PyObject *data = Py_None;
	Py_buffer view = {0};
	if (!PyArg_ParseTuple(args, "sy#|O", &method, &json.data, &json_len, &data)) {
		return NULL;
	}
	json.len = (size_t)json_len;
	struct ipc_bytes bytes = {"", 0};
	if (PyUnicode_Check(data) && PyUnicode_IS_COMPACT_ASCII(data)) {
		bytes = (struct ipc_bytes){
		    (const char *)PyUnicode_1BYTE_DATA(data), (size_t)PyUnicode_GET_LENGTH(data)};
	} else if (data != Py_None) {
		if (PyObject_GetBuffer(data, &view, PyBUF_SIMPLE) < 0) {
			return NULL;
		}
		bytes = (struct ipc_bytes){view.buf, (size_t)view.len};
	}
	uint64_t id = 0;
	int r;
	Py_BEGIN_ALLOW_THREADS;
	r = host_call(method, json, &id);
	Py_END_ALLOW_THREADS;
	if (r < 0) {
		host_cancel(id);
		(void)fail(r);
	} else if (put_all(id, bytes.data, bytes.len) < 0) {
		host_cancel(id);
		r = -1;
	}
	PyBuffer_Release(&view);
	return r < 0 ? NULL : PyLong_FromUnsignedLongLong(id);
}

static bool is_ascii(const struct host_chunk *c)
{
	unsigned char all = 0;
	for (; c != NULL; c = c->next) {
		for (size_t i = 0; i < c->len; i++) {
			all |= (unsigned char)c->bytes[i];
		}
	}
	return all < 0x80;
}

/* The bytes that came, piece by piece out of where they were; as a str when TEXT and they are
 * ASCII. */
static PyObject *make_data(struct host_answer *a, bool text)
{
	text = text && is_ascii(a->list);
	PyObject *made = text ? PyUnicode_New((Py_ssize_t)a->len, 127)
			      : PyBytes_FromStringAndSize(NULL, (Py_ssize_t)a->len);
	if (made == NULL) {
		return NULL;
	}
	char *to = text ? (char *)PyUnicode_1BYTE_DATA(made) : PyBytes_AS_STRING(made);
	while (a->list != NULL) {
		memcpy(to, a->list->bytes, a->list->len);
		to += a->list->len;
		host_chunk_drop(&a->list);
	}
	return made;
}

/* (ok, json, data) of a ready call. SIZE < 0: it stays open, for its bytes; 0: none are wanted. */
static PyObject *take(uint64_t id, Py_ssize_t size, bool text)
{
	cleanup(host_answer_fini) struct host_answer a;
	int r = host_take(id, size < 0, &a);
	if (r < 0) {
		return fail(r);
	}
	PyObject *data = a.ok && size > 0 ? make_data(&a, text) : Py_NewRef(Py_None);
	return data == NULL ? NULL
			    : Py_BuildValue("Ns#N", PyBool_FromLong(a.ok), a.json.data,
				  (Py_ssize_t)a.json.len, data);
}

/* What wait and take are given: number, size, text. */
static int parse_take(PyObject *args, uint64_t *id, Py_ssize_t *size, int *text)
{
	unsigned long long number;
	if (!PyArg_ParseTuple(args, "Knp", &number, size, text)) {
		return -1;
	}
	*id = number;
	if (*size > 0) {
		host_want(*id, (uint64_t)*size);
	}
	return 0;
}

/* wait(number, size, text) -> (ok, json, data), or None when another call has become ready for
 * which no thread waits. */
static PyObject *host_module_wait(PyObject *module, PyObject *args)
{
	(void)module;
	uint64_t id;
	Py_ssize_t size;
	int text;
	if (parse_take(args, &id, &size, &text) < 0) {
		return NULL;
	}
	for (;;) {
		int r;
		Py_BEGIN_ALLOW_THREADS;
		r = host_wait(id, WAIT_MS);
		Py_END_ALLOW_THREADS;
		if (PyErr_CheckSignals() < 0) {
			return NULL;
		}
		if (r < 0) {
			return fail(r);
		}
		if (r == 1) {
			return take(id, size, text != 0);
		}
		if (r == 2) {
			Py_RETURN_NONE;
		}
	}
}

/* take(number, size, text) -> (ok, json, data), or None while it is not ready. */
static PyObject *host_module_take(PyObject *module, PyObject *args)
{
	(void)module;
	uint64_t id;
	Py_ssize_t size;
	int text;
	if (parse_take(args, &id, &size, &text) < 0) {
		return NULL;
	}
	int r = host_is_ready(id);
	if (r < 0) {
		return fail(r);
	}
	return r == 1 ? take(id, size, text != 0) : Py_NewRef(Py_None);
}

static PyObject *host_module_poll(PyObject *module, PyObject *args)
{
	(void)module;
	(void)args;
	int r = host_poll();
	return r < 0 ? fail(r) : Py_NewRef(Py_None);
}

static PyObject *host_module_cancel(PyObject *module, PyObject *number)
{
	(void)module;
	unsigned long long id = PyLong_AsUnsignedLongLong(number);
	if (PyErr_Occurred() != NULL) {
		return NULL;
	}
	Py_BEGIN_ALLOW_THREADS;
	host_cancel(id);
	Py_END_ALLOW_THREADS;
	Py_RETURN_NONE;
}

static PyObject *host_module_end(PyObject *module, PyObject *args)
{
	(void)module;
	(void)args;
	Py_BEGIN_ALLOW_THREADS;
	host_end();
	Py_END_ALLOW_THREADS;
	Py_RETURN_NONE;
}

static PyObject *host_module_fileno(PyObject *module, PyObject *args)
{
	(void)module;
	(void)args;
	return PyLong_FromLong(host_fileno());
}

static PyObject *host_module_show_packages(PyObject *module, PyObject *names)
{
	(void)module;
	Py_ssize_t len;
	const char *text = PyUnicode_AsUTF8AndSize(names, &len);
	if (text == NULL || !python_show_packages((struct ipc_bytes){text, (size_t)len})) {
		return NULL;
	}
	Py_RETURN_NONE;
}

static PyMethodDef host_methods[] = {
    {"display", host_display, METH_O, "Sends one display: a tuple of (MIME type, bytes)."},
    {"getenv", host_getenv, METH_O, "A variable of the process's environment as it is now."},
    {"session_pid", host_session_pid, METH_NOARGS, "The process that serves the session."},
    {"interrupt_when_freed", host_interrupt_when_freed, METH_NOARGS,
	"An object whose end interrupts the main thread."},
    {"call", host_module_call, METH_VARARGS, "Sends a host call; returns its number."},
    {"wait", host_module_wait, METH_VARARGS, "Waits for the answer of a host call."},
    {"take", host_module_take, METH_VARARGS, "The answer of a host call, if it is there."},
    {"poll", host_module_poll, METH_NOARGS, "Reads the answers that are there."},
    {"cancel", host_module_cancel, METH_O, "Nobody waits for this host call any more."},
    {"end", host_module_end, METH_NOARGS, "Ends all host calls, with their execution."},
    {"show_packages", host_module_show_packages, METH_O, "Directories of packages, in lines."},
    {"fileno", host_module_fileno, METH_NOARGS, "Readable when an answer may be there."},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef host_module = {
    PyModuleDef_HEAD_INIT,
    .m_name = "_carrel_host",
    .m_size = -1,
    .m_methods = host_methods,
};

PyObject *host_module_init(void)
{
	return PyModule_Create(&host_module);
}
