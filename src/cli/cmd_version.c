/* carrel version: which client this is, and the libraries it runs with. */
#include <curl/curl.h>
#include <jansson.h>

#include "cli/command.h"
#include "cli/options.h"
#include "cli/output.h"

int cmd_version(int argc, char **argv)
{
	struct options shared;
	struct err e;
	int first = options_parse(&shared, argc, argv, NULL, 0, &e);
	if (first >= 0 && first < argc) {
		first = err_set(&e, ERR_INVALID, "'%s' is one word too many", argv[first]);
	}
	if (first < 0) {
		return command_usage_error("version", &e);
	}
	struct output o;
	output_init(&o, shared.json);
	const char *curl = curl_version_info(CURLVERSION_NOW)->version;
	if (!o.json) {
		int r = output_linef(&o, "carrel " CARREL_VERSION " (libcurl %s, jansson %s)", curl,
		    jansson_version_str());
		return r < 0 ? CLI_EXIT_USER : CLI_EXIT_OK;
	}
	cleanup(json_decrefp) json_t *document = json_pack("{s:s, s:s, s:s}", "version",
	    CARREL_VERSION, "libcurl", curl, "jansson", jansson_version_str());
	return output_json(&o, document, &e) < 0 ? output_failure(&o, NULL, &e) : CLI_EXIT_OK;
}
