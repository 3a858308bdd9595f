#include "base/json_stream.h"

#include <errno.h>
#include <string.h>

#include "base/json_text.h"
#include "base/unicode.h"

#define WORD_MAX 9 /* -Infinity */

enum state {
	VALUE,
	FIRST_ITEM, /* behind "[": a value, or the end */
	FIRST_NAME, /* behind "{" */
	NAME,
	COLON,
	AFTER, /* behind a value */
	STRING,
	ESCAPE,      /* behind a backslash */
	HEX,         /* in the digits of \u */
	HEX_END,     /* behind four of them */
	HIGH,        /* behind the first half of a pair */
	HIGH_ESCAPE, /* and a backslash */
	LOW_HEX,
	LOW_END,
	WORD,
	MINUS,
	ZERO,
	WHOLE,
	POINT,
	FRACTION,
	EXPONENT,
	EXPONENT_SIGN,
	EXPONENT_DIGITS,
};

/* What becomes of one byte. */
enum step {
	KEEP,  /* it goes out */
	HOLD,  /* it is undecided */
	AGAIN, /* the state has changed; look at it again */
	BAD,
};

void json_stream_init(struct json_stream *s)
{
	*s = (struct json_stream){.state = VALUE};
}

/* --- what is held --------------------------------------------------------------------------------
 */

static int out_add(struct buf *out, const char *bytes, size_t len)
{
	return out == NULL ? 0 : buf_add(out, bytes, len);
}

/* The first LEN bytes of what is held go out, or INSTEAD in their place. */
static int release(struct json_stream *s, size_t len, const char *instead, struct buf *out)
{
	int r = instead != NULL ? out_add(out, instead, strlen(instead))
				: out_add(out, s->held, len);
	s->held_len -= len;
	memmove(s->held, s->held + len, s->held_len);
	return r;
}

static int hex_digit(char d)
{
	return d >= '0' && d <= '9'   ? d - '0'
	       : d >= 'a' && d <= 'f' ? d - 'a' + 10
	       : d >= 'A' && d <= 'F' ? d - 'A' + 10
				      : -1;
}

/* Of \uXXXX at AT. */
static unsigned held_unit(const struct json_stream *s, size_t at)
{
	unsigned unit = 0;
	for (size_t i = at + 2; i < at + 6; i++) {
		unit = unit * 16 + (unsigned)hex_digit(s->held[i]);
	}
	return unit;
}

static void value_ended(struct json_stream *s)
{
	s->state = s->in_name ? COLON : AFTER;
	s->in_name = false;
}

/* --- words and numbers ---------------------------------------------------------------------------
 */

static int release_word(struct json_stream *s, struct buf *out)
{
	static const struct {
		const char *word, *instead;
	} words[] = {{"true", NULL}, {"false", NULL}, {"null", NULL}, {"NaN", "null"},
	    {"Infinity", "null"}, {"-Infinity", "null"}};
	for (size_t i = 0; i < array_len(words); i++) {
		if (s->held_len == strlen(words[i].word) &&
		    memcmp(s->held, words[i].word, s->held_len) == 0) {
			value_ended(s);
			return release(s, s->held_len, words[i].instead, out);
		}
	}
	return -EINVAL;
}

static bool is_letter(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

static bool is_digit(char c)
{
	return c >= '0' && c <= '9';
}

static enum step step_minus(struct json_stream *s, char c, int *failed, struct buf *out)
{
	if (c == 'I') {
		s->state = WORD;
		return HOLD;
	}
	if (!is_digit(c)) {
		return BAD;
	}
	*failed = release(s, s->held_len, NULL, out);
	s->state = c == '0' ? ZERO : WHOLE;
	return KEEP;
}

/* In a number: which state C leads to; AFTER when the number is over, STRING for none. */
static enum state number_next(enum state state, char c)
{
	bool e = c == 'e' || c == 'E';
	switch (state) {
	case ZERO:
	case WHOLE:
		return is_digit(c) ? (state == WHOLE ? WHOLE : STRING)
		       : c == '.'  ? POINT
		       : e         ? EXPONENT
				   : AFTER;
	case POINT:
		return is_digit(c) ? FRACTION : STRING;
	case FRACTION:
		return is_digit(c) ? FRACTION : e ? EXPONENT : AFTER;
	case EXPONENT:
		return is_digit(c)            ? EXPONENT_DIGITS
		       : c == '+' || c == '-' ? EXPONENT_SIGN
					      : STRING;
	case EXPONENT_SIGN:
		return is_digit(c) ? EXPONENT_DIGITS : STRING;
	default:
		return is_digit(c) ? EXPONENT_DIGITS : AFTER;
	}
}

static enum step step_number(struct json_stream *s, char c)
{
	enum state next = number_next(s->state, c);
	if (next == STRING) {
		return BAD;
	}
	s->state = next;
	return next == AFTER ? AGAIN : KEEP;
}

/* --- strings -------------------------------------------------------------------------------------
 */

/* The first byte of a character of several (Unicode, table 3-7). */
static bool begin_character(struct json_stream *s, unsigned char c)
{
	s->least = c == 0xe0 ? 0xa0 : c == 0xf0 ? 0x90 : 0x80;
	s->most = c == 0xed ? 0x9f : c == 0xf4 ? 0x8f : 0xbf;
	s->bytes_due = c >= 0xf0 ? 3 : c >= 0xe0 ? 2 : 1;
	return c >= 0xc2 && c <= 0xf4;
}

static enum step step_string(struct json_stream *s, unsigned char c)
{
	if (s->bytes_due > 0) {
		bool fits = c >= s->least && c <= s->most;
		s->bytes_due--;
		s->least = 0x80;
		s->most = 0xbf;
		return fits ? KEEP : BAD;
	}
	if (c >= 0x80) {
		return begin_character(s, c) ? KEEP : BAD;
	}
	if (c == '\\') {
		s->state = ESCAPE;
		return HOLD;
	}
	if (c == '"') {
		value_ended(s);
	}
	return c < ' ' ? BAD : KEEP;
}

static enum step step_escape(struct json_stream *s, char c, int *failed, struct buf *out)
{
	if (c == 'u') {
		s->state = HEX;
		return HOLD;
	}
	if (c == '\0' || strchr("\"\\/bfnrt", c) == NULL) {
		return BAD;
	}
	*failed = release(s, s->held_len, NULL, out);
	s->state = STRING;
	return KEEP;
}

static enum step step_hex(struct json_stream *s, char c, size_t whole, enum state next)
{
	if (hex_digit(c) < 0) {
		return BAD;
	}
	if (s->held_len + 1 == whole) {
		s->state = next;
	}
	return HOLD;
}

static const char replacement[] = "\\ufffd";

static enum step step_hex_end(struct json_stream *s, int *failed, struct buf *out)
{
	unsigned unit = held_unit(s, 0);
	bool half = unit >= 0xd800 && unit <= 0xdfff;
	if (half && unit < 0xdc00) {
		s->state = HIGH;
		return AGAIN;
	}
	*failed = release(s, s->held_len, half ? replacement : NULL, out);
	s->state = STRING;
	return AGAIN;
}

static enum step step_high(struct json_stream *s, char c, int *failed, struct buf *out)
{
	if (s->state == HIGH && c == '\\') {
		s->state = HIGH_ESCAPE;
		return HOLD;
	}
	if (s->state == HIGH_ESCAPE && c == 'u') {
		s->state = LOW_HEX;
		return HOLD;
	}
	/* Its other half is not there. */
	*failed = release(s, 6, replacement, out);
	s->state = s->state == HIGH ? STRING : ESCAPE;
	return AGAIN;
}

static enum step step_low_end(struct json_stream *s, int *failed, struct buf *out)
{
	unsigned unit = held_unit(s, 6);
	if (unit >= 0xdc00 && unit <= 0xdfff) {
		*failed = release(s, s->held_len, NULL, out);
		s->state = STRING;
	} else {
		*failed = release(s, 6, replacement, out);
		s->state = HEX_END;
	}
	return AGAIN;
}

/* --- between them --------------------------------------------------------------------------------
 */

static bool in_object(const struct json_stream *s)
{
	unsigned level = s->depth - 1;
	return (s->objects[level / 64] & 1ULL << level % 64) != 0;
}

static enum step enter(struct json_stream *s, bool object)
{
	if (s->depth == JSON_STREAM_DEPTH_MAX) {
		return BAD;
	}
	unsigned level = s->depth++;
	uint64_t bit = 1ULL << level % 64;
	uint64_t *word = &s->objects[level / 64];
	*word = object ? *word | bit : *word & ~bit;
	s->state = object ? FIRST_NAME : FIRST_ITEM;
	return KEEP;
}

static enum step leave(struct json_stream *s)
{
	s->depth--;
	s->state = AFTER;
	return KEEP;
}

static enum step step_value(struct json_stream *s, char c)
{
	if (s->state == FIRST_ITEM && c == ']') {
		return leave(s);
	}
	if (c == '{' || c == '[') {
		return enter(s, c == '{');
	}
	if (c == '"') {
		s->state = STRING;
		return KEEP;
	}
	if (c == '-' || is_letter(c)) {
		s->state = c == '-' ? MINUS : WORD;
		return HOLD;
	}
	s->state = c == '0' ? ZERO : WHOLE;
	return is_digit(c) ? KEEP : BAD;
}

static enum step step_name(struct json_stream *s, char c)
{
	if (s->state == FIRST_NAME && c == '}') {
		return leave(s);
	}
	s->in_name = true;
	s->state = STRING;
	return c == '"' ? KEEP : BAD;
}

static enum step step_after(struct json_stream *s, char c)
{
	if (s->depth == 0) {
		return BAD;
	}
	if (c == ',') {
		s->state = in_object(s) ? NAME : VALUE;
		return KEEP;
	}
	return c == (in_object(s) ? '}' : ']') ? leave(s) : BAD;
}

static enum step step_between(struct json_stream *s, char c)
{
	if (c == ' ' || c == '\t' || c == '\r' || c == '\n') {
		return KEEP;
	}
	switch ((enum state)s->state) {
	case FIRST_NAME:
	case NAME:
		return step_name(s, c);
	case COLON:
		s->state = VALUE;
		return c == ':' ? KEEP : BAD;
	case AFTER:
		return step_after(s, c);
	default:
		return step_value(s, c);
	}
}

/* --- all of it -----------------------------------------------------------------------------------
 */

static enum step step_word(struct json_stream *s, char c, int *failed, struct buf *out)
{
	if (is_letter(c)) {
		return s->held_len < WORD_MAX ? HOLD : BAD;
	}
	*failed = release_word(s, out);
	return AGAIN;
}

static enum step step(struct json_stream *s, char c, int *failed, struct buf *out)
{
	switch ((enum state)s->state) {
	case STRING:
		return step_string(s, (unsigned char)c);
	case ESCAPE:
		return step_escape(s, c, failed, out);
	case HEX:
		return step_hex(s, c, 6, HEX_END);
	case HEX_END:
		return step_hex_end(s, failed, out);
	case HIGH:
	case HIGH_ESCAPE:
		return step_high(s, c, failed, out);
	case LOW_HEX:
		return step_hex(s, c, 12, LOW_END);
	case LOW_END:
		return step_low_end(s, failed, out);
	case WORD:
		return step_word(s, c, failed, out);
	case MINUS:
		return step_minus(s, c, failed, out);
	case ZERO:
	case WHOLE:
	case POINT:
	case FRACTION:
	case EXPONENT:
	case EXPONENT_SIGN:
	case EXPONENT_DIGITS:
		return step_number(s, c);
	default:
		return step_between(s, c);
	}
}

int json_stream_add(struct json_stream *s, const char *bytes, size_t len, struct buf *out)
{
	size_t from = 0; /* what lies between this and I is not copied yet */
	int r = 0;
	for (size_t i = 0; r == 0 && i < len;) {
		int failed = 0;
		switch (step(s, bytes[i], &failed, out)) {
		case KEEP:
			i++;
			break;
		case HOLD:
			r = out_add(out, bytes + from, i - from);
			s->held[s->held_len++] = bytes[i];
			from = ++i;
			break;
		case AGAIN:
			break;
		case BAD:
			r = -EINVAL;
			break;
		}
		r = r < 0 ? r : failed;
	}
	return r < 0 ? r : out_add(out, bytes + from, len - from);
}

int json_stream_end(struct json_stream *s, struct buf *out)
{
	int r = s->state == WORD ? release_word(s, out) : 0;
	bool whole = s->state == AFTER || s->state == ZERO || s->state == WHOLE ||
		     s->state == FRACTION || s->state == EXPONENT_DIGITS;
	return r < 0 ? r : whole && s->depth == 0 ? 0 : -EINVAL;
}

int json_quoting_add(
    struct json_quoting *q, const char *bytes, size_t len, bool last, struct buf *out)
{
	int r = 0;
	/* The character that was cut, byte by byte until it is whole or cannot be. */
	while (r == 0 && q->cut_len > 0 && len > 0) {
		q->cut[q->cut_len++] = *bytes++;
		len--;
		size_t whole = unicode_whole(q->cut, q->cut_len);
		r = json_text_add_inside(out, q->cut, whole);
		q->cut_len -= whole;
		memmove(q->cut, q->cut + whole, q->cut_len);
	}
	size_t whole = last ? len : unicode_whole(bytes, len);
	if (r == 0 && last && q->cut_len > 0) {
		r = json_text_add_inside(out, q->cut, q->cut_len);
		q->cut_len = 0;
	}
	r = r < 0 ? r : json_text_add_inside(out, bytes, whole);
	memcpy(q->cut + q->cut_len, bytes + whole, len - whole);
	q->cut_len += len - whole;
	return r;
}
