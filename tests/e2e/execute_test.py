"""Running code over the wire: routes, bodies, identifiers, results, errors, asynchronous executions,
queueing, streams and displays."""

import ast
import base64
import json
import pathlib
import socket
import sys
import time
import unittest
import urllib.parse

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "lib"))
from harness import API_VERSION, Server, ServerCase, run_at_once  # noqa: E402

ROUTES = ("code/execute", "python/execute", "executions")
VERSIONS = ("2024-02-02-preview", "2024-08-02-preview", "2024-10-02-preview", "2025-02-02-preview",
            "2025-10-02-preview", "2024-09-01", "2031-01-01")
SUCCESS = {"code/execute": "Success", "python/execute": "Success", "executions": "Succeeded"}
PNG = b"\x89PNG\r\n\x1a\n"
QUEUE_MAX = 32
CODE_MAX = 4 << 20


def parts(route, reply):
    """(status, stdout, stderr, result) of a successful answer in the shape of its route."""
    answer = reply.json()
    if route == "executions":
        inner = answer["result"]
        return answer["status"], inner["stdout"], inner["stderr"], inner["executionResult"]
    inner = answer["properties"] if route == "code/execute" else answer
    assert set(inner) - {"$id"} == {"status", "stdout", "stderr", "result",
                                    "executionTimeInMilliseconds"}, inner
    return inner["status"], inner["stdout"], inner["stderr"], inner["result"]


class Routes(ServerCase):
    def post(self, route, body, identifier="", **options):
        return self.server.request("POST", route, self.session if identifier == "" else identifier, body,
                                   **options)

    def test_every_route_takes_wrapped_and_flat_bodies(self):
        for route in ROUTES:
            for field in ("code", "pythonCode"):
                flat = {"codeInputType": "inline", "executionType": "synchronous", field: "6 * 7"}
                for body in (flat, {"properties": flat}):
                    with self.subTest(route=route, body=body):
                        reply = self.post(route, body)
                        self.assertEqual(reply.status, 200, reply)
                        self.assertEqual(parts(route, reply), (SUCCESS[route], "", "", 42))

    def test_shape_of_code_execute(self):
        answer = self.post("code/execute", {"properties": {"code": "print('a'); 1"}}).json()
        self.assertEqual(answer["$id"], "1")
        inner = answer["properties"]
        self.assertEqual(inner["$id"], "2")
        self.assertEqual((inner["status"], inner["stdout"], inner["stderr"], inner["result"]),
                         ("Success", "a\n", "", 1))
        self.assertIsInstance(inner["executionTimeInMilliseconds"], int)

    def test_shape_of_python_execute(self):
        answer = self.post("python/execute", {"properties": {"pythonCode": "2"}}).json()
        self.assertEqual(answer["$id"], "1")
        self.assertNotIn("properties", answer)
        self.assertEqual((answer["status"], answer["result"]), ("Success", 2))
        self.assertIsInstance(answer["executionTimeInMilliseconds"], int)

    def test_shape_of_executions(self):
        reply = self.post("executions", {"code": "import time; time.sleep(0.05); 3"})
        answer = reply.json()
        self.assertEqual(answer["identifier"], self.session)
        self.assertEqual(answer["executionType"], "Synchronous")
        self.assertEqual(answer["status"], "Succeeded")
        self.assertEqual(answer["verdict"], "succeeded")
        self.assertNotIn("error", answer)
        self.assertNotIn("newSession", answer)
        self.assertNotIn("truncated", answer)
        self.assertGreaterEqual(answer["result"]["executionTimeInMilliseconds"], 50)
        self.assertLess(answer["result"]["executionTimeInMilliseconds"], 5000)
        self.assertEqual(reply.headers["content-type"], "application/json; charset=utf-8")
        self.assertEqual(reply.headers["operation-id"], answer["id"])
        self.assertEqual(reply.headers["x-ms-session-guid"], answer["sessionId"])
        self.assertGreaterEqual(int(reply.headers["x-ms-overall-execution-time"]), 50)
        self.assertGreaterEqual(int(reply.headers["x-ms-execution-request-time"]), 50)

    def test_words_are_taken_without_case(self):
        for kind in ("inline", "Inline", "INLINE", "InlineText", "inlinetext"):
            for how in ("synchronous", "Synchronous", "SYNCHRONOUS"):
                reply = self.post("executions",
                                  {"codeInputType": kind, "executionType": how, "code": "5"})
                self.assertEqual(parts("executions", reply)[3], 5, (kind, how))
        encoded = base64.b64encode("'\u00e9' * 2".encode()).decode()
        for kind in ("InlineBase64", "inlinebase64", "INLINEBASE64"):
            for route in ROUTES:
                reply = self.post(route, {"properties": {"codeInputType": kind, "code": encoded}})
                self.assertEqual(parts(route, reply)[3], "\u00e9\u00e9", (kind, route))

    def test_wrong_words_and_types_are_named(self):
        for member, value in (("codeInputType", "file"), ("codeInputType", 3),
                              ("executionType", "later"), ("executionType", True),
                              ("timeoutInSeconds", "10"), ("timeoutInSeconds", 0),
                              ("timeoutInSeconds", -1), ("outputStreamsMaxLength", 0),
                              ("outputStreamsMaxLength", 1.5), ("useEmptyKernel", "yes"),
                              ("returnJupyterFormatExecutionResult", 1), ("code", 7),
                              ("code", ["1"])):
            for wrap in (False, True):
                with self.subTest(member=member, value=value, wrap=wrap):
                    body = {"code": "1", member: value}
                    reply = self.post("executions", {"properties": body} if wrap else body)
                    self.assert_error(reply, 400, "SessionRequestValidationFailed", member)
        bad = {"codeInputType": "InlineBase64", "code": "not base64!"}
        self.assert_error(self.post("executions", bad), 400, "SessionRequestValidationFailed",
                          "code")
        bad["code"] = base64.b64encode(b"\xff\xfe").decode()
        self.assert_error(self.post("executions", bad), 400, "SessionRequestValidationFailed",
                          "code")

    def test_null_members_and_unknown_ones_do_not_matter(self):
        body = {"code": "1", "timeoutInSeconds": None, "codeInputType": None, "properties": None,
                "executionType": None, "identifier": self.session, "networkStatus": "x", "more": {"a": 1}}
        self.assertEqual(parts("executions", self.post("executions", body))[3], 1)

    def test_missing_code_is_what_clients_retry_upon(self):
        for route in ROUTES:
            for body in ({}, {"properties": {}}, {"properties": {"codeInputType": "inline"}},
                         {"properties": None}, {"code": None}, {"shellCommand": "ls"}):
                self.assert_error(self.post(route, body), 400, "SessionPropertiesMissing")

    def test_api_version(self):
        for version in VERSIONS:
            for route in ROUTES:
                reply = self.post(route, {"code": "1"}, api_version=version)
                self.assertEqual(parts(route, reply)[3], 1, (route, version))
        for version in (None, "", "latest", "2025-10", "20251002", "2025-10-02/preview"):
            reply = self.post("executions", {"code": "1"}, api_version=version)
            self.assert_error(reply, 400, "SessionRequestValidationFailed", "api-version")

    def test_the_oldest_routes_are_older_than_the_api_version(self):
        reply = self.post("python/execute", {"pythonCode": "6 * 7"}, api_version=None)
        self.assertEqual(parts("python/execute", reply)[3], 42)
        location = reply.headers["operation-location"]
        connection = self.server.connect()
        connection.request("GET", location, headers={"Authorization": f"Bearer {self.server.token}"})
        answer = json.loads(connection.getresponse().read())
        self.assertEqual((answer["status"], answer["result"]["executionResult"]), ("Succeeded", 42))
        for route in ("upload", "python/uploadFile"):
            reply = self.server.upload(self.session, "a.txt", b"x", route=route, api_version=None)
            self.assertEqual(reply.status, 200, reply)
        reply = self.post("code/execute", {"code": "1"}, api_version=None)
        self.assert_error(reply, 400, "SessionRequestValidationFailed", "api-version")

    def test_where_to_ask_is_told_on_every_route(self):
        for route in ROUTES:
            reply = self.post(route, {"code": "6 * 7"})
            headers = reply.headers
            self.assertIn(f"executions/{headers['operation-id']}?", headers["operation-location"])
            connection = self.server.connect()
            connection.request("GET", headers["operation-location"],
                               headers={"Authorization": f"Bearer {self.server.token}"})
            answer = json.loads(connection.getresponse().read())
            self.assertEqual((answer["id"], answer["result"]["executionResult"]),
                             (headers["operation-id"], 42))

    def test_identifier_in_the_body(self):
        for route in ROUTES:
            wrapped = {"properties": {"identifier": self.session, "code": "1"}}
            flat = {"identifier": self.session, "code": "1"}
            for body in (wrapped, flat):
                reply = self.post(route, body, identifier=None)
                self.assertEqual(reply.status, 200, reply)
        self.assertEqual(self.server.request("GET", "session", self.session).status, 200)

    def test_identifier_in_the_path(self):
        self.server.execute(self.session, "x = 11")
        for route in ROUTES:
            path = f"identifier/{urllib.parse.quote(self.session)}/{route}"
            reply = self.post(path, {"code": "x"}, identifier=None)
            self.assertEqual(parts(route, reply)[3], 11)
            # The oddity in the documentation has it twice.
            reply = self.post(path, {"code": "x"})
            self.assertEqual(parts(route, reply)[3], 11)

    def test_identifier_in_the_query_goes_first(self):
        self.server.execute(self.session, "x = 12")
        reply = self.post("executions", {"identifier": "another", "code": "x"})
        self.assertEqual(reply.json()["identifier"], self.session)
        self.assertEqual(parts("executions", reply)[3], 12)

    def test_order_of_the_query_does_not_matter(self):
        headers = {"Authorization": f"Bearer {self.server.token}"}
        for query in (f"identifier={self.session}&api-version={API_VERSION}",
                      f"api-version={API_VERSION}&identifier={self.session}",
                      f"x=y&identifier={self.session}&&api-version={API_VERSION}&z"):
            connection = self.server.connect()
            connection.request("POST", f"/executions?{query}", '{"code": "1"}', headers)
            self.assertEqual(connection.getresponse().status, 200, query)
            connection.close()

    def test_lengths_of_identifiers(self):
        for identifier in ("a" * 4, "b" * 128):
            self.assertEqual(self.post("executions", {"code": "1"}, identifier).status, 200)
            self.assertEqual(self.server.request("DELETE", "session", identifier).status, 204)
        for identifier in ("", "a", "abc", "b" * 129, "c" * 3000):
            reply = self.server.request("POST", "executions", identifier, {"code": "1"})
            self.assert_error(reply, 400, "InvalidLengthOfSessionIdentifier", "identifier")
        for body in ({"code": "1"}, {"properties": {"code": "1"}}):
            self.assert_error(self.post("executions", body, None), 400,
                              "SessionRequestValidationFailed", "identifier")

    def test_characters_of_identifiers(self):
        for character in "_|}{[]:\";'<>?/.,@#$%^&*()-+=!~`":
            identifier = f"x{character}{character}yz"
            reply = self.post("executions", {"code": "1"}, identifier)
            self.assertEqual((reply.status, reply.json().get("identifier")), (200, identifier))
            self.assertEqual(self.server.request("DELETE", "session", identifier).status, 204)
        for character in ("\u00e9", "\u4e2d", "\n", "\t", "\x7f", "\x01", "\\"):
            reply = self.post("executions", {"code": "1"}, f"abcd{character}")
            self.assert_error(reply, 400, "SessionRequestValidationFailed", "identifier")

    def test_raw_identifiers_as_some_clients_send_them(self):
        connection = self.server.connect()
        raw = f"{self.session}_|[]:;/.,@$()-!~"
        connection.putrequest("POST", f"/executions?identifier={raw}&api-version={API_VERSION}")
        connection.putheader("Authorization", f"Bearer {self.server.token}")
        connection.putheader("Content-Length", "13")
        connection.endheaders(b'{"code": "1"}')
        answer = json.loads(connection.getresponse().read())
        connection.close()
        self.assertEqual(answer["identifier"], raw)
        self.server.request("DELETE", "session", raw)

    def test_prefixes_of_a_pools_path(self):
        self.server.execute(self.session, "x = 13")
        arm = "subscriptions/0000/resourceGroups/my%20group"
        for prefix in ("sessionPools/default", f"{arm}/sessionPools/default", "a/b/c/sessionPools/"
                       "default", f"{arm}/sessionPools/default/identifier/{self.session}"):
            for route in ROUTES:
                reply = self.post(f"{prefix}/{route}", {"code": "x"})
                self.assertEqual(reply.status, 200, (prefix, route, reply))
                self.assertEqual(parts(route, reply)[3], 13)

    def test_pools_that_are_not_there(self):
        for prefix in ("sessionPools/other", "subscriptions/1/resourceGroups/2/sessionPools/other"):
            self.assert_error(self.post(f"{prefix}/executions", {"code": "1"}), 404,
                              "SessionPoolNotFound")

    def test_unknown_routes_and_methods(self):
        for route in ("nothing", "code", "code/execute/x", "executions/a/b", "sessionPools/default"):
            reply = self.post(route, {"code": "1"})
            self.assertIn(reply.status, (404, 405), (route, reply))
            self.assertEqual(reply.headers["x-ms-error-code"], reply.error_code)
        reply = self.server.request("GET", "code/execute", self.session)
        self.assert_error(reply, 405, "MethodNotAllowed")
        self.assertIn("POST", reply.headers["allow"])
        self.assert_error(self.server.request("PUT", "executions", self.session, {"code": "1"}), 405,
                          "MethodNotAllowed")

    def test_tokens(self):
        for header in (None, "Bearer wrong", "Bearer", "Bearer ", "Basic dXNlcjpwYXNz",
                       f"Basic {self.server.token}", self.server.token,
                       f"Bearer {self.server.token}x", f"Bearer {self.server.token[:-1]}"):
            for route in ROUTES:
                reply = self.post(route, {"code": "1"}, headers={"Authorization": header})
                self.assert_error(reply, 401, "Unauthorized")
                self.assertIn("bearer", reply.headers["www-authenticate"].lower())
                self.assertNotIn(self.server.token.encode(), reply.body)
        reply = self.post("executions", {"code": "1"},
                          headers={"Authorization": f"bearer {self.server.token}"})
        self.assertEqual(reply.status, 200)

    def test_client_chooses_the_operation_id(self):
        for route in ROUTES:
            wanted = f"mine-{route.replace('/', '.')}_1"
            reply = self.post(route, {"code": "1"}, headers={"operation-id": wanted})
            self.assertEqual(reply.headers["operation-id"], wanted)
            got = self.server.request("GET", f"executions/{wanted}", self.session).json()
            self.assertEqual((got["id"], got["status"]), (wanted, "Succeeded"))
        reply = self.post("executions", {"code": "1"}, headers={"operation-id": wanted})
        self.assert_error(reply, 409, "SessionRequestConflict")
        for unusable in ("a/b", "..", "x" * 129, "a b"):
            reply = self.post("executions", {"code": "1"}, headers={"operation-id": unusable})
            self.assertEqual(reply.status, 200)
            self.assertNotEqual(reply.json()["id"], unusable)


class Bodies(ServerCase):
    def post_raw(self, body, **headers):
        return self.server.request("POST", "executions", self.session, body,
                                   {"Content-Type": "application/json", **headers})

    def check_refused(self, body):
        self.assert_error(self.post_raw(body), 400, "SessionRequestValidationFailed")

    def test_what_is_not_a_json_object(self):
        for body in (b"", b"1 + 1", b"[]", b'"x"', b"null", b"{", b'{"code": "1"', b'{"code": "1"}x',
                     b'{"code": "1",}', b"{'code': '1'}", b'{"code": NaN}', b"\xff\xfe{\x00}\x00",
                     b'{"code": "\xff"}', b'{"code": "\xed\xa0\x80"}', b'{"code": "\x01"}',
                     b'{"code": "\\ud800"}', b'{"code": "1", "timeoutInSeconds": 1e999}'):
            with self.subTest(body=body):
                self.check_refused(body)

    def test_duplicate_keys(self):
        self.check_refused(b'{"code": "1", "code": "2"}')
        self.check_refused(b'{"properties": {"code": "1", "code": "2"}}')
        self.check_refused(b'{"code": "1", "\\u0063ode": "2"}')

    def test_nested_bombs(self):
        deep = 100_000
        self.check_refused(b"[" * deep)
        self.check_refused(b'{"a":' * deep + b"1" + b"}" * deep)
        self.check_refused(b'{"code": "1", "x": ' + b"[" * deep + b"]" * deep + b"}")
        wide = json.dumps({"code": "4", "x": [[]] * 200_000}).encode()
        self.assertEqual(self.post_raw(wide).json()["result"]["executionResult"], 4)

    def test_content_type_is_not_looked_at(self):
        for kind in ("text/plain", "application/octet-stream", "application/json;charset=utf-8"):
            reply = self.post_raw(b'{"code": "1"}', **{"Content-Type": kind})
            self.assertEqual(reply.status, 200, kind)

    def test_code_with_a_nul(self):
        self.check_refused(b'{"code": "1\\u0000"}')
        encoded = base64.b64encode(b"1\0").decode()
        self.check_refused(json.dumps({"codeInputType": "InlineBase64", "code": encoded}).encode())

    def test_empty_code(self):
        for code in ("", " ", "\n", "\n\n  \n", "# nothing", "pass"):
            reply = self.server.execute(self.session, code)
            self.assertEqual((reply["status"], reply["result"]["executionResult"],
                              reply["result"]["stdout"], reply["result"]["stderr"]),
                             ("Succeeded", "", "", ""), repr(code))

    def test_code_of_4_mib(self):
        tail = "\nlen(text)"
        head = "text = '"
        fill = CODE_MAX - len(head) - len(tail) - 1
        code = f"{head}{'x' * fill}'{tail}"
        self.assertEqual(len(code), CODE_MAX)
        self.assertEqual(self.server.value(self.session, code), fill)
        reply = self.server.request("POST", "executions", self.session, {"code": code + " "})
        self.assert_error(reply, 413, "SessionRequestTooLarge")
        encoded = base64.b64encode(b"#" * (1 << 20) + b"\n7").decode()
        reply = self.server.request("POST", "executions", self.session,
                                    {"codeInputType": "InlineBase64", "code": encoded})
        self.assertEqual(reply.json()["result"]["executionResult"], 7)

    def test_body_past_the_bound(self):
        reply = self.post_raw(b'{"code": "1", "x": "' + b"y" * (9 << 20) + b'"}')
        self.assert_error(reply, 413, "SessionRequestTooLarge")
        self.assertEqual(self.server.value(self.session, "1"), 1)


class Results(ServerCase):
    """What the result slot holds, row by row."""

    config = {"pools": [{"name": "default", "ready_sessions": 4, "output": "16m"}]}

    #   code                            default             notebook format
    ROWS = (
        ("x = 1",                       "",                 ("", None)),
        ("print('a')",                  "",                 ("", None)),
        ("import os",                   "",                 ("", None)),
        ("1; 2;",                       "",                 ("", None)),
        ("None",                        "",                 (None,)),
        ("1 + 1",                       2,                  ("2",)),
        ("-7",                          -7,                 ("-7",)),
        ("2**63 - 1",                   2**63 - 1,          (str(2**63 - 1),)),
        ("0.5",                         0.5,                ("0.5",)),
        ("0.1 + 0.2",                   0.1 + 0.2,          ("0.30000000000000004",)),
        ("5e-324",                      5e-324,             ("5e-324",)),
        ("1e22",                        1e22,               ("1e+22",)),
        ("2.0",                         2.0,                ("2.0",)),
        ("True",                        True,               ("True",)),
        ("1 > 2",                       False,              ("False",)),
        ("float('nan')",                None,               ("nan",)),
        ("float('inf')",                None,               ("inf",)),
        ("-float('inf')",               None,               ("-inf",)),
        ("'nan'",                       "nan",              ("'nan'",)),
        ("'hello'",                     "hello",            ("'hello'",)),
        ("''",                          "",                 ("''",)),
        ("'it\\'s'",                    "it's",             ('"it\'s"',)),
        ("'a\\nb\\t\\\\'",              "a\nb\t\\",         ("'a\\nb\\t\\\\'",)),
        ("'\u00e9\U0001f600'",          "\u00e9\U0001f600", ("'\u00e9\U0001f600'",)),
        ("'\\x00\\x7f'",                "\x00\x7f",         ("'\\x00\\x7f'",)),
        ("[1, 'a', None]",              "[1, 'a', None]",   ("[1, 'a', None]",)),
        ("{'a': 1}",                    "{'a': 1}",         ("{'a': 1}",)),
        ("(1,)",                        "(1,)",             ("(1,)",)),
        ("{3}",                         "{3}",              ("{3}",)),
        ("b'\\x00\\xff'",               "b'\\x00\\xff'",    ("b'\\x00\\xff'",)),
        ("1j",                          "1j",               ("1j",)),
        ("...",                         "Ellipsis",         ("Ellipsis",)),
        ("int",                         "int",              ("int",)),
    )

    def value(self, code, **more):
        reply = self.server.request("POST", "executions", self.session, {"code": code, **more})
        answer = reply.json()
        self.assertEqual(answer.get("status"), "Succeeded", (code[:200], reply))
        return answer["result"]["executionResult"]

    def check(self, got, wanted, code):
        self.assertEqual(got, wanted, code)
        self.assertIs(type(got), type(wanted), code)

    def test_default_format(self):
        for code, wanted, _ in self.ROWS:
            with self.subTest(code=code):
                self.check(self.value(code), wanted, code)
                for route in ("code/execute", "python/execute"):
                    reply = self.server.request("POST", route, self.session, {"code": code})
                    self.check(parts(route, reply)[3], wanted, code)

    def test_notebook_format(self):
        for code, _, allowed in self.ROWS:
            for member in ("returnJupyterFormatExecutionResult", "returnJupyterFormat"):
                with self.subTest(code=code, member=member):
                    self.assertIn(self.value(code, **{member: True}), allowed)

    def test_integers_past_what_json_readers_hold(self):
        for code in ("2**64", "-2**63 - 1", "10**30", "10**4000"):
            self.assertEqual(str(self.value(code)), str(eval(code)), code)
        self.assertEqual(self.value("10**100000")[:2], "0x")  # more digits than Python writes

    def test_lone_surrogates(self):
        self.assertEqual(self.value("'a\\ud800b'"), "a\\ud800b")
        self.assertIn("\\ud800", self.value("['\\ud800']"))
        self.assertIn("\\ud800", self.value("{'\\ud800': 1}"))
        reply = self.server.execute(self.session, "print('x\\ud800y')")
        self.assertEqual((reply["status"], reply["result"]["stdout"]), ("Succeeded", "x\\ud800y\n"))
        reply = self.server.execute(self.session, "raise ValueError('\\udfff')")
        self.assertEqual(reply["error"]["error"]["message"], "\\udfff")

    def test_cyclic_objects(self):
        self.assertEqual(self.value("a = []; a.append(a); a"), "[[...]]")
        self.assertEqual(self.value("d = {}; d['d'] = d; d"), "{'d': {...}}")

    def test_long_containers_are_laid_out_as_a_notebook_does(self):
        # AutoGen takes the package list apart at ",\n".
        text = self.value("['package-%03d' % i for i in range(50)]")
        self.assertEqual(text, "[" + ",\n ".join(f"'package-{i:03d}'" for i in range(50)) + "]")

    def test_strings_of_a_megabyte(self):
        text = self.value("'\u00e4b' * 300_000")
        self.assertEqual(text, "\u00e4b" * 300_000)
        self.assertEqual(self.value("'x' * 1_000_000"), "x" * 1_000_000)

    def test_result_of_10_mb_is_cut_and_marked(self):
        for code in ("'x' * 10_000_000", "['x' * 10_000_000]", "b'x' * 10_000_000"):
            text = self.value(code)
            self.assertLess(len(text), 2 << 20)
            self.assertGreater(len(text), 1_000_000)
            self.assertIn("[cut: ", text[-200:])
        self.assertEqual(self.value("1"), 1)

    def test_10_mb_on_a_stream_where_the_pool_allows_it(self):
        reply = self.server.execute(self.session, "print('0123456789' * 1_000_000)")
        self.assertEqual(reply["result"]["stdout"], "0123456789" * 1_000_000 + "\n")
        self.assertEqual(reply["verdict"], "succeeded")

    def test_objects_whose_repr_fails(self):
        reply = self.server.execute(
            self.session, "class Bad:\n    def __repr__(self): raise KeyError('no')\nBad()")
        self.assertEqual(reply["status"], "Failed")
        self.assertIn("KeyError: 'no'", reply["result"]["stderr"])

    def test_objects_with_a_repr_of_their_own(self):
        code = "class Point:\n    def __repr__(self): return 'Point<1>'\nPoint()"
        self.assertEqual(self.value(code), "Point<1>")

    def test_a_bool_subclass_and_numpy_like_numbers_stay_text(self):
        self.assertEqual(self.value("class I(int): pass\nI(5)"), "5")

    def test_nothing_breaks_the_reply(self):
        for code in ("'\\u2028\\u2029</script>'", "'\"\\\\'", "'\\x1b[31mred\\x1b[0m'"):
            self.assertEqual(self.value(code), eval(code))


class Cells(ServerCase):
    """How code runs."""

    def test_streams_and_value_together(self):
        reply = self.server.execute(
            self.session, "import sys\nprint('out')\nprint('err', file=sys.stderr)\n'value'")
        self.assertEqual(reply["result"]["stdout"], "out\n")
        self.assertEqual(reply["result"]["stderr"], "err\n")
        self.assertEqual(reply["result"]["executionResult"], "value")

    def test_the_integration_test_of_a_client(self):
        reply = self.server.request("POST", "code/execute", self.session,
                                    {"properties": {"codeInputType": "inline",
                                                    "executionType": "synchronous",
                                                    "code": "print('Hello, World!')\n1+1"}})
        self.assertEqual(parts("code/execute", reply), ("Success", "Hello, World!\n", "", 2))

    def test_state_is_kept_across_dialects(self):
        self.server.request("POST", "code/execute", self.session, {"properties": {"code": "a = 1"}})
        self.server.request("POST", "python/execute", self.session, {"pythonCode": "b = a + 1"})
        self.server.value(self.session, "import math\ndef f(): return a + b\nclass C: n = 5")
        self.assertEqual(self.server.value(self.session, "f() + C.n + math.floor(1.5)"), 9)
        self.assertEqual(self.server.value(self.session, "import pickle; "
                                                    "pickle.loads(pickle.dumps(C())).n"), 5)
        self.assertEqual(self.server.value(self.session, "_"), 5)

    def test_state_survives_an_error(self):
        self.server.value(self.session, "kept = [1]")
        self.server.execute(self.session, "kept.append(2); 1 / 0")
        self.assertEqual(self.server.value(self.session, "kept"), "[1, 2]")

    def test_sessions_do_not_share(self):
        self.server.value(self.session, "secret = 1")
        reply = self.server.execute(self.session + "-b", "secret")
        self.assertEqual(reply["error"]["error"]["code"], "NameError")
        self.server.request("DELETE", "session", self.session + "-b")

    def test_empty_kernel(self):
        self.server.value(self.session, "x = 1")
        empty = self.server.request("POST", "executions", self.session,
                                    {"code": "'x' in globals()", "useEmptyKernel": True})
        self.assertIs(empty.json()["result"]["executionResult"], False)
        self.server.request("POST", "executions", self.session, {"code": "y = 2", "useEmptyKernel": True})
        self.assertEqual(self.server.value(self.session, "'y' in globals(), x"), "(False, 1)")

    def test_top_level_await(self):
        self.server.value(self.session, "import asyncio\nasync def f(n):\n    await asyncio.sleep(0)\n"
                                   "    return n")
        self.assertEqual(self.server.value(self.session, "await f(3)"), 3)
        self.assertEqual(self.server.value(
            self.session, "x = [await f(i) for i in range(3)]\nasync with asyncio.Lock():\n    "
                     "y = await asyncio.gather(f(4), f(5))\nx + y"), "[0, 1, 2, 4, 5]")

    def test_standard_input_is_at_its_end(self):
        reply = self.server.execute(self.session, "input()")
        self.assertEqual(reply["error"]["error"]["code"], "EOFError")

    def test_working_directory(self):
        self.assertEqual(self.server.value(self.session, "import os; os.getcwd()"), "/mnt/data")
        self.server.value(self.session, "open('here.py', 'w').write('n = 4'); import here")
        self.assertEqual(self.server.value(self.session, "here.n"), 4)

    def test_output_of_subprocesses_and_of_the_c_library(self):
        reply = self.server.execute(
            self.session, "import subprocess, os\nsubprocess.run(['echo', 'child'])\n"
                     "os.write(1, b'raw\\n')\nos.write(2, b'raw error\\n');")
        self.assertEqual(reply["result"]["stdout"], "child\nraw\n")
        self.assertEqual(reply["result"]["stderr"], "raw error\n")

    def test_shell_lines_and_magics(self):
        reply = self.server.execute(self.session, "!echo $((20 + 22))")
        self.assertEqual((reply["status"], reply["result"]["stdout"].strip()), ("Succeeded", "42"))
        self.assertEqual(self.server.value(self.session, "lines = !printf 'a\\nb'\nlist(lines)"),
                         "['a', 'b']")
        reply = self.server.execute(self.session, "%%writefile made.txt\nhello")
        self.assertEqual(reply["status"], "Succeeded", reply)
        self.assertEqual(self.server.value(self.session, "open('made.txt').read().strip()"), "hello")

    def test_a_timeout_above_the_pools_is_the_pools(self):
        self.assertEqual(self.server.execute(self.session, "1", timeout=600)["status"], "Succeeded")

    def test_failures_on_every_route(self):
        for route in ROUTES:
            reply = self.server.request("POST", route, self.session, {
                "code": "def price():\n    return {}['sales_amount']\nprint('before')\nprice()"})
            self.assertEqual(reply.status, 200)
            status, out, err, result = parts(route, reply)
            self.assertEqual((status, out, result),
                             ("Failed" if route == "executions" else "Failure", "before\n", ""))
            self.assertIn("KeyError: 'sales_amount'", err)
            self.assertIn("return {}['sales_amount']", err)
            self.assertNotIn("_carrel", err)
            self.assertNotIn("\x1b", err)

    def test_the_error_object(self):
        reply = self.server.execute(self.session, "raise ValueError('no \u00e9')")
        self.assertEqual(reply["error"]["error"], {"code": "ValueError", "message": "no \u00e9"})
        self.assertEqual(reply["verdict"], "exception")
        reply = self.server.execute(self.session, "if:")
        self.assertEqual(reply["error"]["error"]["code"], "SyntaxError")
        self.assertIn("if:", reply["result"]["stderr"])

    def test_chained_errors_and_groups(self):
        reply = self.server.execute(
            self.session, "try:\n    1 / 0\nexcept ZeroDivisionError as e:\n    "
                     "raise RuntimeError('second') from e")
        self.assertIn("ZeroDivisionError", reply["result"]["stderr"])
        self.assertIn("RuntimeError: second", reply["result"]["stderr"])
        reply = self.server.execute(self.session, "raise ExceptionGroup('g', [ValueError(1), "
                                             "KeyError(2)])")
        self.assertIn("KeyError", reply["result"]["stderr"])

    def test_deep_recursion(self):
        reply = self.server.execute(self.session, "def f(n): return f(n + 1)\nf(0)")
        self.assertEqual(reply["error"]["error"]["code"], "RecursionError")
        self.assertLess(len(reply["result"]["stderr"]), 300_000)
        self.assertEqual(self.server.value(self.session, "1"), 1)

    def test_new_session_after_a_crash_is_told_once(self):
        self.server.value(self.session, "x = 1")
        self.server.upload(self.session, "a.txt", b"1")
        self.assertEqual(self.server.execute(self.session, "import os; os._exit(3)")["verdict"],
                         "session_killed")
        reply = self.server.execute(self.session, "'x' in globals(), __import__('os').listdir('.')")
        self.assertEqual(reply["result"]["executionResult"], "(False, [])")
        self.assertIs(reply["newSession"], True)
        self.assertNotIn("newSession", self.server.execute(self.session, "1"))

    def test_new_session_is_told_on_the_old_routes_too(self):
        for route in ("code/execute", "python/execute"):
            self.server.execute(self.session, "import os; os._exit(3)")
            answer = self.server.request("POST", route, self.session, {"code": "1"},
                                         extensions="true").json()
            self.assertIs(answer.get("properties", answer)["newSession"], True)

    def test_a_deleted_session_is_no_loss(self):
        self.server.value(self.session, "x = 1")
        self.server.request("DELETE", "session", self.session)
        reply = self.server.execute(self.session, "'x' in globals()")
        self.assertIs(reply["result"]["executionResult"], False)
        self.assertNotIn("newSession", reply)


class Output(ServerCase):
    """Bounded output, and the marks where it was cut."""

    config = {"pools": [{"name": "default", "ready_sessions": 4, "output": "64k"}]}

    def test_short_output_is_whole(self):
        reply = self.server.execute(self.session, f"print('x' * {(64 << 10) - 1})")
        self.assertEqual(reply["result"]["stdout"], "x" * ((64 << 10) - 1) + "\n")
        self.assertEqual(reply["verdict"], "succeeded")

    def test_the_pools_bound(self):
        for stream, name in ((1, "stdout"), (2, "stderr")):
            reply = self.server.execute(
                self.session, f"import os\nfor i in range(1000):\n    os.write({stream}, b'y' * 1000)\n9")
            text = reply["result"][name]
            self.assertEqual(text[:64 << 10], "y" * (64 << 10))
            self.assertLess(len(text), (64 << 10) + 200)
            self.assertIn("[output cut: 65536 of 1000000 bytes kept]", text)
            self.assertEqual(reply["truncated"], {name: 1_000_000 - (64 << 10)})
            self.assertEqual(reply["verdict"], "output_limit")
            self.assertEqual(reply["status"], "Succeeded")
            self.assertEqual(reply["result"]["executionResult"], 9)

    def test_a_requests_own_bound(self):
        for route in ROUTES:
            reply = self.server.request("POST", route, self.session, {
                "code": "print('abcdef' * 100)", "outputStreamsMaxLength": 10})
            out = parts(route, reply)[1]
            self.assertTrue(out.startswith("abcdefabcd\n[output cut: 10 of 601 bytes kept]"), out)

    def test_a_character_is_never_cut_in_two(self):
        reply = self.server.request("POST", "executions", self.session, {
            "code": "print('\u20ac' * 100)", "outputStreamsMaxLength": 10}).json()
        self.assertTrue(reply["result"]["stdout"].startswith("\u20ac\u20ac\u20ac\n[output cut"))
        self.assertNotIn("\ufffd", reply["result"]["stdout"])

    def test_bytes_that_are_not_utf_8(self):
        reply = self.server.execute(self.session, "import os\nos.write(1, b'a\\xffb\\xe2\\x82c');")
        self.assertRegex(reply["result"]["stdout"], "^a\ufffdb\ufffd{1,2}c$")

    def test_terminal_escapes_go_through_as_they_are(self):
        reply = self.server.execute(self.session, "print('\\x1b[31mred\\x1b[0m')")
        self.assertEqual(reply["result"]["stdout"], "\x1b[31mred\x1b[0m\n")

    def test_an_error_after_too_much_output_is_told(self):
        reply = self.server.execute(self.session, "import sys\nsys.stderr.write('z' * 200_000)\n1 / 0")
        self.assertEqual(reply["verdict"], "exception")
        self.assertIn("[output cut", reply["result"]["stderr"])
        self.assertIn("ZeroDivisionError", reply["result"]["stderr"])
        self.assertIn("stderr", reply["truncated"])


class Asynchronous(ServerCase):
    def start(self, code, route="executions", pool=None, **more):
        return self.server.request("POST", route, self.session,
                                   {"code": code, "executionType": "Asynchronous", **more}, pool=pool)

    def get(self, location):
        connection = self.server.connect()
        connection.request("GET", location, headers={"Authorization": f"Bearer {self.server.token}"})
        answer = connection.getresponse()
        body = json.loads(answer.read())
        connection.close()
        self.assertEqual(answer.status, 200, body)
        return body

    def until_final(self, location):
        def final():
            answer = self.get(location)
            return answer if answer["status"] not in ("NotStarted", "Running") else None
        return self.wait_until(final, "the execution did not become final")

    def test_start_poll_and_result(self):
        for pool in (None, "default"):
            reply = self.start("import time; time.sleep(0.1); print('done'); 8", pool=pool)
            answer = reply.json()
            self.assertIn(reply.status, (200, 202))
            self.assertEqual((answer["status"], answer["executionType"]),
                             ("Running", "Asynchronous"))
            self.assertNotIn("result", answer)
            self.assertEqual(reply.headers["operation-id"], answer["id"])
            location = reply.headers["operation-location"]
            self.assertIn(f"/executions/{answer['id']}?", location)
            self.assertEqual("sessionPools/default" in location, pool is not None)
            self.assertIn("api-version=", location)
            answer = self.until_final(location)
            self.assertEqual((answer["status"], answer["result"]["stdout"],
                              answer["result"]["executionResult"]), ("Succeeded", "done\n", 8))
            # It stays.
            self.assertEqual(self.get(location), answer)

    def test_on_the_old_routes(self):
        for route in ("code/execute", "python/execute"):
            reply = self.start("6", route)
            self.assertIn(reply.status, (200, 202))
            answer = self.until_final(reply.headers["operation-location"])
            self.assertEqual((answer["status"], answer["result"]["executionResult"]),
                             ("Succeeded", 6))

    def test_location_of_an_identifier_with_odd_characters(self):
        odd = "a&b=c d"[:5] + "#?%/" + self.session[-8:]
        reply = self.server.request("POST", "executions", odd,
                                    {"code": "1", "executionType": "Asynchronous"})
        self.assertEqual(self.until_final(reply.headers["operation-location"])["status"],
                         "Succeeded")
        self.server.request("DELETE", "session", odd)

    def test_delete_interrupts(self):
        reply = self.start("state = 'kept'\nimport time\nopen('on', 'w').close()\ntime.sleep(60)")
        location = reply.headers["operation-location"]
        identifier = reply.json()["id"]
        self.wait_for_file("on")
        start = time.monotonic()
        ended = self.server.request("DELETE", f"executions/{identifier}", self.session)
        self.assertLess(time.monotonic() - start, 1)
        self.assertEqual((ended.status, ended.json()["status"], ended.json()["verdict"]),
                         (200, "Canceled", "interrupted"))
        self.assertEqual(self.get(location)["status"], "Canceled")
        # Again: it stays what it is.
        again = self.server.request("DELETE", f"executions/{identifier}", self.session)
        self.assertEqual(again.json()["status"], "Canceled")
        self.assertEqual(self.server.value(self.session, "state"), "kept")

    def test_delete_before_its_code_has_begun(self):
        self.server.value(self.session, "state = 'kept'")
        for _ in range(30):
            identifier = self.start("import time; time.sleep(60)").json()["id"]
            start = time.monotonic()
            ended = self.server.request("DELETE", f"executions/{identifier}", self.session).json()
            self.assertEqual((ended["status"], ended["verdict"]), ("Canceled", "interrupted"))
            self.assertLess(time.monotonic() - start, 1)
        self.assertEqual(self.server.value(self.session, "state"), "kept")

    def test_delete_of_a_final_one_changes_nothing(self):
        done = self.server.execute(self.session, "1")
        answer = self.server.request("DELETE", f"executions/{done['id']}", self.session).json()
        self.assertEqual((answer["status"], answer["verdict"]), ("Succeeded", "succeeded"))

    def test_it_runs_without_its_client(self):
        connection = self.server.connect()
        connection.request("POST", self.server.target("executions", self.session),
                           json.dumps({"code": "import time; time.sleep(0.3); 5",
                                       "executionType": "Asynchronous"}),
                           {"Authorization": f"Bearer {self.server.token}"})
        answer = connection.getresponse()
        location = answer.getheader("operation-location")
        connection.close()
        self.assertEqual(self.until_final(location)["result"]["executionResult"], 5)

    def test_unknown_ones(self):
        self.server.value(self.session, "1")
        for method in ("GET", "DELETE"):
            self.assert_error(self.server.request(method, "executions/none", self.session), 404,
                              "SessionExecutionNotFound")
            self.assert_error(self.server.request(method, "executions/none", "no-such-session"), 400,
                              "SessionWithIdentifierNotFound", "identifier")

    def test_of_another_session(self):
        done = self.server.execute(self.session, "1")
        self.server.value(self.session + "-b", "1")
        reply = self.server.request("GET", f"executions/{done['id']}", self.session + "-b")
        self.assert_error(reply, 404, "SessionExecutionNotFound")
        self.server.request("DELETE", "session", self.session + "-b")

    def test_they_end_with_their_session(self):
        reply = self.start("import time; time.sleep(60)")
        identifier = reply.json()["id"]
        self.assertEqual(self.server.request("DELETE", "session", self.session).status, 204)
        self.assert_error(self.server.request("GET", f"executions/{identifier}", self.session), 400,
                          "SessionWithIdentifierNotFound")

    def test_a_synchronous_one_answers_when_its_session_is_deleted(self):
        self.server.value(self.session, "1")

        def end():
            self.wait_until(lambda: self.running(), "it did not run")
            self.assertEqual(self.server.request("DELETE", "session", self.session).status, 204)

        reply, _ = run_at_once([
            lambda: self.server.request("POST", "executions", self.session,
                                        {"code": "import time; time.sleep(60)"},
                                        headers={"operation-id": "sleeper"}), end])
        self.assertEqual((reply.status, reply.json()["verdict"]), (200, "session_killed"))

    def running(self):
        reply = self.server.request("GET", "executions/sleeper", self.session)
        return reply.status == 200 and reply.json()["status"] == "Running"


class Queueing(ServerCase):
    def status_of(self, operation):
        reply = self.server.request("GET", f"executions/{operation}", self.session)
        return reply.json()["status"] if reply.status == 200 else None

    def post(self, code, operation, how="Synchronous"):
        return self.server.request("POST", "executions", self.session,
                                   {"code": code, "executionType": how},
                                   headers={"operation-id": operation})

    def block(self):
        """An execution that runs until the file 'go' is there."""
        reply = self.post("import os, time\nlog = []\nwhile not os.path.exists('go'):\n"
                          "    time.sleep(0.005)", "block", "Asynchronous")
        self.assertIn(reply.status, (200, 202))
        self.wait_until(lambda: self.status_of("block") == "Running", "it did not run")

    def test_ten_calls_keep_their_order(self):
        self.block()

        def call(i):
            # Each is sent once the one before it waits in the session.
            if i > 0:
                self.wait_until(lambda: self.status_of(f"call-{i - 1}") == "NotStarted",
                                f"call {i - 1} did not queue", 30)
            return self.post(f"log.append({i}); len(log)", f"call-{i}")

        def release():
            self.wait_until(lambda: self.status_of("call-9") == "NotStarted", "not queued", 30)
            self.server.upload(self.session, "go", b"")

        replies = run_at_once([*(lambda i=i: call(i) for i in range(10)), release])[:10]
        self.assertEqual([r.json()["result"]["executionResult"] for r in replies],
                         list(range(1, 11)))
        self.assertEqual(self.server.value(self.session, "log"), str(list(range(10))))

    def test_ten_calls_at_once_all_run_alone(self):
        self.server.value(self.session, "inside = seen = 0")
        code = ("inside += 1\nassert inside == 1\nimport time; time.sleep(0.01)\n"
                "seen += 1\ninside -= 1")
        run_at_once([lambda: self.server.value(self.session, code)] * 10)
        self.assertEqual(self.server.value(self.session, "seen"), 10)

    def test_past_the_bound(self):
        self.block()
        for i in range(1, QUEUE_MAX):
            self.assertIn(self.post(f"log.append({i})", f"q{i}", "Asynchronous").status, (200, 202))
        for how in ("Synchronous", "Asynchronous"):
            reply = self.post("log.append('too much')", f"over-{how}", how)
            self.assert_error(reply, 429, "SessionQueueFull")
            self.assertGreaterEqual(int(reply.headers["retry-after"]), 1)
        # One that is taken out makes room for one.
        gone = self.server.request("DELETE", "executions/q5", self.session).json()
        self.assertEqual((gone["status"], gone["verdict"]), ("Canceled", "interrupted"))
        self.assertIn(self.post("log.append('last')", "last", "Asynchronous").status, (200, 202))
        # Another session has nothing to do with it.
        start = time.monotonic()
        self.assertEqual(self.server.value(self.session + "-b", "1"), 1)
        self.assertLess(time.monotonic() - start, 1)
        self.server.request("DELETE", "session", self.session + "-b")
        self.server.upload(self.session, "go", b"")
        self.wait_until(lambda: self.status_of("last") == "Succeeded", "the last did not run")
        wanted = [i for i in range(1, QUEUE_MAX) if i != 5] + ["last"]
        self.assertEqual(ast.literal_eval(self.server.value(self.session, "log")), wanted)


class Leaving(ServerCase):
    """A client that goes away from a synchronous call interrupts it."""

    def interrupted_count(self):
        text = self.server.request("GET", "metrics").body.decode()
        line = next(line for line in text.splitlines()
                    if line.startswith("carrel_executions_total") and '"interrupted"' in line)
        return int(line.split()[-1])

    def leave(self, route, headers=""):
        before = self.interrupted_count()
        self.server.value(self.session, "state = 'kept'")
        body = json.dumps({"properties": {"code": "import time\ntime.sleep(60)"}})
        client = socket.create_connection(("127.0.0.1", self.server.port))
        client.sendall((f"POST {self.server.target(route, self.session)} HTTP/1.1\r\nHost: x\r\n"
                        f"Authorization: Bearer {self.server.token}\r\noperation-id: left-{route[:4]}"
                        f"\r\n{headers}Content-Length: {len(body)}\r\n\r\n{body}").encode())
        self.wait_until(lambda: b'"Running"' in self.server.request(
            "GET", f"executions/left-{route[:4]}", self.session).body, "it did not run")
        client.close()
        start = time.monotonic()
        self.assertEqual(self.server.value(self.session, "state"), "kept")
        self.assertLess(time.monotonic() - start, 1)
        self.assertEqual(self.interrupted_count(), before + 1)

    def test_from_every_route(self):
        for route in ROUTES:
            self.leave(route)

    def test_from_a_stream(self):
        self.leave("executions", "Accept: text/event-stream\r\n")

    def test_while_it_waits_in_the_queue(self):
        reply = self.server.request(
            "POST", "executions", self.session,
            {"code": "import os, time\nran = []\nwhile not os.path.exists('go'): time.sleep(0.005)",
             "executionType": "Asynchronous"})
        body = json.dumps({"code": "ran.append(1)"})
        client = socket.create_connection(("127.0.0.1", self.server.port))
        client.sendall((f"POST {self.server.target('executions', self.session)} HTTP/1.1\r\nHost: x\r\n"
                        f"Authorization: Bearer {self.server.token}\r\noperation-id: queued\r\n"
                        f"Content-Length: {len(body)}\r\n\r\n{body}").encode())
        status = lambda: self.server.request("GET", "executions/queued", self.session)  # noqa: E731
        self.wait_until(lambda: status().status == 200, "it did not queue")
        self.assertEqual(status().json()["status"], "NotStarted")
        client.close()
        self.wait_until(lambda: status().json()["status"] == "Canceled", "it stayed")
        self.server.upload(self.session, "go", b"")
        self.wait_until(lambda: self.server.request(
            "GET", f"executions/{reply.json()['id']}", self.session).json()["status"] == "Succeeded",
            "the first did not end")
        self.assertEqual(self.server.value(self.session, "ran"), "[]")


class Streams(ServerCase):
    """Server-sent events of an execution while it runs."""

    WAIT = "\ndef wait(name):\n    import os, time\n    while not os.path.exists(name):\n" \
           "        time.sleep(0.002)\n"

    def go(self, name):
        self.assertEqual(self.server.upload(self.session, name, b"").status, 200)

    def test_output_comes_while_it_is_made_and_in_order(self):
        code = self.WAIT + (
            "import sys\nprint('one', flush=True)\nwait('a')\nprint('two', file=sys.stderr, "
            "flush=True)\nwait('b')\nprint('three', flush=True)\nwait('c')\n4")
        events = self.server.stream(self.session, code)
        self.assertEqual(next(events), ("stdout", {"text": "one\n"}))
        self.go("a")
        self.assertEqual(next(events), ("stderr", {"text": "two\n"}))
        self.go("b")
        self.assertEqual(next(events), ("stdout", {"text": "three\n"}))
        self.go("c")
        name, last = next(events)
        self.assertEqual(name, "result")
        self.assertEqual((last["status"], last["result"]["executionResult"],
                          last["result"]["stdout"], last["result"]["stderr"]),
                         ("Succeeded", 4, "one\nthree\n", "two\n"))
        self.assertEqual(list(events), [])

    def test_a_display_comes_between_the_output_around_it(self):
        code = self.WAIT + (
            "from IPython.display import display, HTML\nprint('before', flush=True)\nwait('a')\n"
            "display(HTML('<b>x</b>'))\nwait('b')\nprint('after')")
        events = self.server.stream(self.session, code)
        self.assertEqual(next(events), ("stdout", {"text": "before\n"}))
        self.go("a")
        name, shown = next(events)
        self.assertEqual((name, shown["text/html"]), ("display", "<b>x</b>"))
        self.go("b")
        self.assertEqual(next(events), ("stdout", {"text": "after\n"}))
        name, last = next(events)
        self.assertEqual(last["displays"][0]["text/html"], "<b>x</b>")

    def test_a_character_that_comes_in_two_writes(self):
        code = self.WAIT + ("import os\nos.write(1, b'a\\xe2\\x82')\nwait('a')\n"
                            "os.write(1, b'\\xac!\\xf0\\x9f')\nwait('b')\nos.write(1, b'\\x98');")
        events = self.server.stream(self.session, code)
        self.assertEqual(next(events), ("stdout", {"text": "a"}))
        self.go("a")
        self.assertEqual(next(events), ("stdout", {"text": "\u20ac!"}))
        self.go("b")
        rest = list(events)
        # What never became a character is shown as such, once it is known.
        self.assertEqual("".join(data["text"] for name, data in rest[:-1]).strip("\ufffd"), "")
        self.assertEqual(rest[-1][1]["result"]["stdout"].rstrip("\ufffd"), "a\u20ac!")

    def test_long_output_is_split_between_characters(self):
        events = list(self.server.stream(self.session, "print('\u20ac' * 100_000)"))
        pieces = [data["text"] for name, data in events if name == "stdout"]
        self.assertGreater(len(pieces), 1)
        self.assertEqual("".join(pieces), "\u20ac" * 100_000 + "\n")
        self.assertEqual(events[-1][1]["result"]["stdout"], "\u20ac" * 100_000 + "\n")

    def test_failures_and_limits(self):
        name, last = list(self.server.stream(self.session, "1 / 0"))[-1]
        self.assertEqual((name, last["status"], last["verdict"]), ("result", "Failed", "exception"))
        name, last = list(self.server.stream(self.session, "import time; time.sleep(60)",
                                             timeoutInSeconds=0.1))[-1]
        self.assertEqual((name, last["verdict"]), ("result", "time_limit"))
        name, last = list(self.server.stream(self.session, "import os; os._exit(1)"))[-1]
        self.assertEqual((name, last["verdict"]), ("result", "session_killed"))

    def test_in_the_shape_of_each_route(self):
        for route in ROUTES:
            connection = self.server.connect()
            connection.request("POST", self.server.target(route, self.session), '{"code": "1"}',
                               {"Authorization": f"Bearer {self.server.token}",
                                "Accept": "text/event-stream"})
            answer = connection.getresponse()
            self.assertEqual(answer.getheader("content-type").split(";")[0], "text/event-stream")
            self.assertTrue(answer.getheader("operation-id"))
            text = answer.read().decode()
            connection.close()
            self.assertTrue(text.endswith("\n\n"))
            last = json.loads(text.rsplit("data: ", 1)[1])
            inner = last.get("properties", last)
            self.assertEqual(inner["status"], SUCCESS[route])

    def test_a_running_one_can_be_looked_at_from_the_beginning_by_many(self):
        reply = self.server.request(
            "POST", "executions", self.session,
            {"code": self.WAIT + "print('early', flush=True)\nwait('a')\nprint('late')",
             "executionType": "Asynchronous"})
        identifier = reply.json()["id"]

        def look():
            connection = self.server.connect()
            connection.request("GET", self.server.target(f"executions/{identifier}", self.session),
                               headers={"Authorization": f"Bearer {self.server.token}",
                                        "Accept": "text/event-stream"})
            answer = connection.getresponse()
            first = answer.readline() + answer.readline()
            self.assertIn(b"early", first)
            return connection, answer

        left, first, second = look(), look(), look()
        left[0].close()  # one that leaves interrupts nothing
        self.go("a")
        for connection, answer in (first, second):
            text = answer.read().decode()
            self.assertIn("late", text)
            self.assertIn('"Succeeded"', text)
            connection.close()

    def test_refusals_are_plain_json(self):
        reply = self.server.request("POST", "executions", self.session, {},
                                    headers={"Accept": "text/event-stream"})
        self.assert_error(reply, 400, "SessionPropertiesMissing")

    def test_a_reader_that_does_not_read_holds_up_nobody(self):
        connection = self.server.connect()
        connection.request("POST", self.server.target("executions", self.session),
                           json.dumps({"code": "for _ in range(1000): print('x' * 1000)"}),
                           {"Authorization": f"Bearer {self.server.token}",
                            "Accept": "text/event-stream"})
        answer = connection.getresponse()
        # Its execution ends although nobody reads, and so the next one runs.
        self.assertEqual(self.server.value(self.session, "1"), 1)
        self.assertIn(b"event: result", answer.read())
        connection.close()


class Displays(ServerCase):
    config = {"preload": ["numpy", "pandas", "matplotlib"]}

    PLOT = "import matplotlib.pyplot as plt\n"

    def run_cell(self, code, **more):
        reply = self.server.request("POST", "executions", self.session, {"code": code, **more},
                                    extensions="true").json()
        self.assertEqual(reply["status"], "Succeeded", reply)
        return reply

    def test_who_asks_for_nothing_finds_each_thing_once(self):
        """In stdout and the result, where clients of Azure's wire look; and a figure there alone."""
        code = self.PLOT + ("import pandas as pd\nfrom IPython.display import HTML\n"
                            "frame = pd.DataFrame({'a': [1, 2]})\nprint('one')\ndisplay(frame)\n"
                            "display(HTML('<h1>Title</h1><style>x</style><p>two <b>words</b>'))\n"
                            "display(HTML('<table><tr><th>k<td>v</table>'))\nprint('three')\n")
        text = "one\n   a\n0  1\n1  2\nTitle\ntwo words\nk\tv\nthree\n"
        for route in ROUTES:
            def run(more):
                reply = self.server.request("POST", route, self.session, {"code": code + more})
                status, out, err, result = parts(route, reply)
                self.assertEqual((status, err), (SUCCESS[route], ""))
                # What is printed comes another way than what is displayed, so it may overtake it.
                self.assertEqual(sorted(out.splitlines()), sorted(text.splitlines()))
                return reply.body, result
            self.assertEqual(run("")[1], "")
            self.assertEqual(run("frame")[1], "   a\n0  1\n1  2")
            self.assertEqual(run("HTML('<i>four</i>')")[1], "four")
            body, result = run("for i in range(2):\n    plt.plot([i])\n    plt.show()\nframe")
            self.check_image(result)
            self.assertEqual(body.count(b"iVBOR"), 1)

    def check_image(self, value):
        self.assertEqual((value["type"], value["format"]), ("image", "png"))
        data = base64.b64decode(value["base64_data"], validate=True)
        self.assertTrue(data.startswith(PNG))
        return data

    def test_a_data_frame(self):
        reply = self.run_cell("import pandas as pd; pd.DataFrame({'a': [1, 2], 'b': ['x', 'y']})")
        self.assertEqual(reply["result"]["executionResult"], "   a  b\n0  1  x\n1  2  y")
        self.assertIn("<table", reply["displays"][0]["text/html"])
        self.assertIn("text/plain", reply["displays"][0])

    def test_arrays_and_their_numbers_are_text(self):
        for code, text in (("np.array([1, 2])", "array([1, 2])"), ("np.float64(0.5)", "0.5"),
                           ("np.int64(3)", "3"), ("np.bool_(True)", "True")):
            reply = self.run_cell(f"import numpy as np; {code}")
            shown = self.run_cell(f"repr({code})")["result"]["executionResult"]
            self.assertEqual(reply["result"]["executionResult"], shown)
            self.assertIn(text, shown)  # numpy 2 writes the type around it

    def test_a_shown_figure(self):
        for route in ROUTES:
            for more in ({}, {"returnJupyterFormatExecutionResult": True}):
                reply = self.server.request("POST", route, self.session, {
                    "code": self.PLOT + "plt.plot([1, 2])\nplt.show()", **more})
                status, out, err, result = parts(route, reply)
                self.assertEqual((status, out, err), (SUCCESS[route], "", ""))
                self.check_image(result)

    def test_a_figure_left_open(self):
        reply = self.run_cell(self.PLOT + "plt.plot([1, 2])\nplt.savefig('f.png')")
        self.check_image(reply["result"]["executionResult"])
        self.assertTrue(self.server.request("GET", "files/f.png/content", self.session)
                        .body.startswith(PNG))
        # It was closed with its cell.
        reply = self.run_cell("plt.get_fignums()")
        self.assertEqual(reply["result"]["executionResult"], "[]")

    def test_a_figure_as_the_value(self):
        reply = self.run_cell(self.PLOT + "fig, ax = plt.subplots()\nax.plot([1, 2])\nfig")
        self.check_image(reply["result"]["executionResult"])

    def test_several_figures(self):
        reply = self.run_cell(
            self.PLOT + "for i in range(3):\n    plt.figure()\n    plt.plot([i])\n    plt.show()")
        shown = [base64.b64decode(d["image/png"]) for d in reply["displays"]]
        self.assertEqual(len(shown), 3)
        self.assertEqual(len(set(shown)), 3)
        # The slot can carry one: the last.
        self.assertEqual(self.check_image(reply["result"]["executionResult"]), shown[-1])
        reply = self.run_cell(self.PLOT + "for i in range(2):\n    plt.figure()\n    plt.plot([i])\n")
        self.assertEqual(len(reply["displays"]), 2)

    def test_a_value_beside_a_figure_is_not_lost(self):
        reply = self.run_cell(self.PLOT + "plt.plot([1, 2])\nplt.show()\n42")
        self.check_image(reply["result"]["executionResult"])
        self.assertEqual(reply["value"], 42)

    def test_a_figure_of_a_cell_that_fails(self):
        reply = self.server.execute(self.session, self.PLOT + "plt.plot([1, 2])\nplt.show()\n1 / 0")
        self.assertEqual(reply["verdict"], "exception")
        self.check_image(reply["result"]["executionResult"])

    def test_an_empty_figure_is_not_shown(self):
        reply = self.run_cell(self.PLOT + "plt.figure();")
        self.assertEqual(reply["result"]["executionResult"], "")
        self.assertNotIn("displays", reply)

    def test_objects_with_representations(self):
        for method, mime, value in (("_repr_html_", "text/html", "<i>x</i>"),
                                    ("_repr_svg_", "image/svg+xml", "<svg/>"),
                                    ("_repr_latex_", "text/latex", "$x$"),
                                    ("_repr_markdown_", "text/markdown", "*x*")):
            reply = self.run_cell(f"class X:\n    def {method}(self): return {value!r}\n"
                                  "    def __repr__(self): return 'X!'\nX()")
            self.assertEqual(reply["displays"][0][mime], value)
            self.assertEqual(reply["result"]["executionResult"], "X!")
        reply = self.run_cell("class J:\n    def _repr_json_(self): return {'a': [1]}\nJ()")
        shown = reply["displays"][0]["application/json"]
        self.assertEqual(json.loads(shown) if isinstance(shown, str) else shown, {"a": [1]})

    def test_displays_in_the_order_they_were_shown(self):
        reply = self.run_cell("from IPython.display import display, HTML, Markdown\n"
                              "display(HTML('<p>1</p>'))\ndisplay(Markdown('2'))\ndisplay(3)\n4")
        self.assertEqual([sorted(d)[-1] if len(d) == 1 else d for d in reply["displays"]][2],
                         "text/plain")
        self.assertEqual(reply["displays"][0]["text/html"], "<p>1</p>")
        self.assertEqual(reply["displays"][1]["text/markdown"], "2")
        self.assertEqual(reply["displays"][2]["text/plain"], "3")
        self.assertEqual(reply["result"]["executionResult"], 4)

    def test_a_figure_in_a_stream(self):
        events = list(self.server.stream(self.session, self.PLOT + "print('a')\nplt.plot([1])\nplt.show()"))
        shown = [data for name, data in events if name == "display"]
        self.assertTrue(base64.b64decode(shown[0]["image/png"]).startswith(PNG))
        self.check_image(events[-1][1]["result"]["executionResult"])

    def test_metadata_names_what_is_there(self):
        answer = self.server.request("GET", "metadata").json()
        self.assertEqual(answer["runtimes"][0]["name"], "Python")
        self.assertEqual(set(answer["jupyterKernel"]), {"name", "version", "projectUrl", "description"})
        self.assertEqual(answer["jupyterKernel"]["name"], "carrel")
        self.assertRegex(answer["runtimes"][0]["version"], r"^3\.\d+\.\d+")
        packages = {p["name"].lower(): p["version"] for p in answer["preInstalledPackages"]}
        version = self.server.value(self.session, "import numpy; numpy.__version__")
        self.assertEqual(packages["numpy"], version)


class Anonymous(unittest.TestCase):
    def test_without_authentication(self):
        with Server(environment={"CONTAINER_AUTH_TOKEN": None,
                                 "CONTAINER_AUTH_DISABLED": "true"}) as server:
            for header in (None, "Bearer anything"):
                reply = server.request("POST", "executions", "anyone", {"code": "1"},
                                       headers={"Authorization": header})
                self.assertEqual(reply.status, 200)
            warnings = [e for e in server.events if e.get("event") == "authentication_disabled"]
            self.assertEqual([e["level"] for e in warnings], ["warning"])


if __name__ == "__main__":
    unittest.main()
