/*
 * pcm_form: what a request says in its JSON body or its query, checked.
 *
 * Every field is asked for by name and type; what is wrong is collected, and pcm_form_close answers
 * with all of it at once, as the reference does: 422, {"detail": [{"type", "loc", "msg", "input"}]}
 * (pydantic 2; clients of pydantic 1 read loc and msg, which are the same). Unknown members are
 * ignored.
 *
 *     struct pcm_form f;
 *     if (pcm_form_open(&f, c, PCM_BODY)) {
 *             const char *name = pcm_form_text(&f, "name", NULL);
 *             if (pcm_form_close(&f)) …
 *     }
 *     pcm_form_fini(&f);
 */
#ifndef API_PCM_FORM_H
#define API_PCM_FORM_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "api/call.h"

enum pcm_form_kind {
	PCM_BODY,          /* a JSON object */
	PCM_OPTIONAL_BODY, /* the same; none at all is {} */
	PCM_QUERY,
};

struct pcm_form {
	struct call *call;
	json_t *body; /* of the body kinds */
	json_t *problems;
};

/* False having answered: the body is no JSON object. F is to be given to pcm_form_fini anyway. */
bool pcm_form_open(struct pcm_form *f, struct call *c, enum pcm_form_kind kind);
/* True when every field so far was well formed; else it has answered. */
bool pcm_form_close(struct pcm_form *f);
void pcm_form_fini(struct pcm_form *f);

/* A member of the body, whatever its type (null too). NULL when it is absent: wrong if REQUIRED.
 * Borrowed from the form, as all that follow. */
json_t *pcm_form_any(struct pcm_form *f, const char *name, bool required);
/* A text; DEFAULT_TEXT when it is absent or null, and when that is NULL it is required. A NUL in it
 * is wrong. */
const char *pcm_form_text(struct pcm_form *f, const char *name, const char *default_text);
/* A text, or NULL when it is absent or null. */
const char *pcm_form_optional_text(struct pcm_form *f, const char *name);
/* A number from 0 on; 0 when it is absent or null. */
double pcm_form_seconds(struct pcm_form *f, const char *name);
/* An object, or NULL when it is absent or null. */
json_t *pcm_form_object(struct pcm_form *f, const char *name);
/* A list of at most MAX texts; required. */
json_t *pcm_form_texts(struct pcm_form *f, const char *name, size_t max);

/* The query parameter NAME; required. */
const char *pcm_form_query(struct pcm_form *f, const char *name);
/* The whole number NAME of the query, from 0 to MAX; FALLBACK when it is absent. */
uint64_t pcm_form_query_number(
    struct pcm_form *f, const char *name, uint64_t max, uint64_t fallback);

#endif
