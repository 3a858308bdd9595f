/* Requests of store.h, one behind the other. */
#include <stdlib.h>

#include "approvals/store_threads.h"

void request_queue_init(struct request_queue *q)
{
	*q = (struct request_queue){.last = &q->first};
}

void request_queue_add(struct request_queue *q, struct approval_request *r)
{
	r->next = NULL;
	*q->last = r;
	q->last = &r->next;
	q->count++;
	q->bytes += r->bytes;
}

struct approval_request *request_queue_take(struct request_queue *q)
{
	struct approval_request *r = q->first;
	if (r == NULL) {
		return NULL;
	}
	q->first = r->next;
	q->last = q->first == NULL ? &q->first : q->last;
	q->count--;
	q->bytes -= r->bytes;
	r->next = NULL;
	return r;
}

void request_queue_move(struct request_queue *q, struct request_queue *from)
{
	if (from->first == NULL) {
		return;
	}
	*q->last = from->first;
	q->last = from->last;
	q->count += from->count;
	q->bytes += from->bytes;
	request_queue_init(from);
}

void request_queue_fini(struct request_queue *q)
{
	struct approval_request *r;
	while ((r = request_queue_take(q)) != NULL) {
		approval_request_free(r);
	}
}

void approval_outcome_clear(struct approval_outcome *o)
{
	json_decref(o->out);
	*o = (struct approval_outcome){0};
}

void request_answer(struct approval_request *r, struct approval_outcome *from)
{
	approval_outcome_clear(&r->answer);
	r->answer = *from;
	*from = (struct approval_outcome){0};
}

void request_refuse(struct approval_request *r, const struct err *e)
{
	approval_outcome_clear(&r->answer);
	r->answer.e = *e;
}

void approval_request_free(struct approval_request *r)
{
	if (r != NULL) {
		json_decref(r->in);
		approval_outcome_clear(&r->answer);
		free(r);
	}
}
