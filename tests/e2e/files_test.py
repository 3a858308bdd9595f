"""Files of a session over the wire: upload, list, show, download and delete in both dialects."""

import hashlib
import http.client
import json
import os
import pathlib
import secrets
import socket
import sys
import unittest
import urllib.parse

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "lib"))
from harness import ServerCase, multipart, run_at_once  # noqa: E402

OLD, NEW = "2024-02-02-preview", "2025-10-02-preview"
ALL_BYTES = bytes(range(256)) * 3
TIME = r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{7}Z$"
MIB = 1 << 20


class Files(ServerCase):
    config = {"pools": [{"name": "default", "ready_sessions": 4, "file_space": "64m"}]}

    def call(self, method, route, **query):
        return self.server.request(method, route, self.session, **query)

    def put(self, name, data=b"x", path=None, route="files", **options):
        reply = self.server.upload(self.session, name, data, path, route, **options)
        self.assertEqual(reply.status, 200, (name, reply))
        return reply.json()

    def names(self, **query):
        reply = self.call("GET", "files", **query)
        self.assertEqual(reply.status, 200, reply)
        return [entry["name"] for entry in reply.json()["value"]]

    def content(self, name, headers=None, **query):
        return self.server.request("GET", f"files/{urllib.parse.quote(name, safe='')}/content",
                                   self.session, headers=headers, **query)


class NewDialect(Files):
    def test_upload_answers_with_the_file(self):
        answer = self.put("a.txt", b"0123456789abcdef")
        self.assertEqual((answer["name"], answer["type"], answer["sizeInBytes"],
                          answer["contentType"], answer["directory"]),
                         ("a.txt", "file", 16, "text/plain; charset=utf-8", ""))
        self.assertRegex(answer["lastModifiedAt"], TIME)

    def test_list(self):
        self.assertEqual(self.call("GET", "files").json(), {"value": []})
        self.put("b.csv", b"12")
        self.put("a.txt", b"1")
        self.server.value(self.session, "import os; os.mkdir('plots')")
        first, second, third = self.call("GET", "files").json()["value"]
        self.assertEqual((first["name"], first["type"], first["sizeInBytes"]), ("a.txt", "file", 1))
        self.assertEqual((second["name"], second["contentType"]),
                         ("b.csv", "text/csv; charset=utf-8"))
        self.assertEqual((third["name"], third["type"], third["sizeInBytes"], third["contentType"]),
                         ("plots", "directory", 4096, "application/octet-stream"))

    def test_metadata(self):
        listed = self.put("a b.txt", b"123")
        answer = self.call("GET", "files/a%20b.txt").json()
        self.assertEqual(answer, {**listed})

    def test_delete(self):
        self.put("a.txt")
        reply = self.call("DELETE", "files/a.txt")
        self.assertEqual((reply.status, reply.body), (204, b""))
        self.assert_error(self.call("DELETE", "files/a.txt"), 404, "SessionFileNotFound")
        self.assertEqual(self.names(), [])

    def test_what_is_not_there(self):
        for route in ("files/none", "files/none/content", "files/content/none"):
            self.assert_error(self.call("GET", route), 404, "SessionFileNotFound")
        self.assert_error(self.call("GET", "files", path="none"), 404, "SessionFileNotFound")
        self.assert_error(self.call("GET", "files/a.txt", path="none"), 404, "SessionFileNotFound")

    def test_directories(self):
        for path in ("sub/deeper", "/mnt/data/sub/deeper", "sub//deeper/", "/mnt/data//sub/deeper"):
            answer = self.put("a.txt", path.encode(), path)
            self.assertEqual((answer["name"], answer["directory"]), ("a.txt", "sub/deeper"))
            self.assertEqual(self.content("a.txt", path="sub/deeper").body, path.encode())
            self.assertEqual(self.names(path=path), ["a.txt"])
            self.assertEqual(self.call("GET", "files/a.txt", path=path).json()["sizeInBytes"],
                             len(path))
        self.assertEqual(self.server.value(self.session, "open('sub/deeper/a.txt').read()"),
                         "/mnt/data//sub/deeper")
        self.assertEqual(self.call("DELETE", "files/a.txt", path="sub/deeper").status, 204)
        self.assertEqual(self.names(path="sub/deeper"), [])
        # The session may write where the upload made a directory.
        self.server.value(self.session, "open('sub/deeper/mine', 'w').close()")

    def test_path_of_the_root_itself(self):
        self.put("a.txt")
        for path in ("", "/mnt/data", "/mnt/data/", "//mnt/data"):
            self.assertEqual(self.names(path=path), ["a.txt"], path)

    def test_recursive(self):
        self.put("top.txt")
        self.put("a.txt", path="x")
        self.put("b.txt", path="x/y")
        self.assertEqual(self.names(), ["top.txt", "x"])
        for word in ("true", "True", "1"):
            listed = self.call("GET", "files", recursive=word).json()["value"]
            self.assertEqual([(f["directory"], f["name"]) for f in listed],
                             [("", "top.txt"), ("", "x"), ("x", "a.txt"), ("x", "y"),
                              ("x/y", "b.txt")])
        # Relative to what is listed.
        listed = self.call("GET", "files", recursive="true", path="x").json()["value"]
        self.assertEqual([(f["directory"], f["name"]) for f in listed],
                         [("", "a.txt"), ("", "y"), ("y", "b.txt")])
        self.assertEqual(self.names(recursive="false"), ["top.txt", "x"])
        self.assert_error(self.call("GET", "files", recursive="maybe"), 400,
                          "SessionRequestValidationFailed", "recursive")

    def test_delete_of_directories(self):
        self.put("a.txt", path="x")
        self.assert_error(self.call("DELETE", "files/x"), 409, "SessionRequestConflict")
        self.call("DELETE", "files/a.txt", path="x")
        self.assertEqual(self.call("DELETE", "files/x").status, 204)
        self.assertEqual(self.names(), [])

    def test_a_file_over_a_directory_and_the_other_way_round(self):
        self.put("a.txt", path="x")
        reply = self.server.upload(self.session, "x", b"1")
        self.assert_error(reply, 409, "SessionRequestConflict")
        reply = self.server.upload(self.session, "b.txt", b"1", path="x/a.txt")
        self.assertIn(reply.status, (404, 409), reply)
        self.assertEqual(self.names(recursive="true"), ["x", "a.txt"])

    def test_several_parts(self):
        body, kind = multipart([("file", "a.txt", b"A"), ("file", "b.txt", b"BB"),
                                ("other", "c.txt", b"CCC")])
        reply = self.server.request("POST", "files", self.session, body,
                                    headers={"Content-Type": kind})
        self.assertEqual([(f["name"], f["sizeInBytes"]) for f in reply.json()["value"]],
                         [("a.txt", 1), ("b.txt", 2), ("c.txt", 3)])
        self.assertEqual(self.content("c.txt").body, b"CCC")

    def test_form_fields_that_are_no_files_are_passed_over(self):
        body, kind = multipart([("comment", None, b"hello"), ("file", "a.txt", b"A")])
        reply = self.server.request("POST", "files", self.session, body,
                                    headers={"Content-Type": kind})
        self.assertEqual(reply.json()["name"], "a.txt")
        self.assertEqual(self.names(), ["a.txt"])

    def test_a_part_that_is_refused_leaves_none_behind(self):
        body, kind = multipart([("file", "good.txt", b"A"), ("file", "bad\x7fname", b"B")])
        reply = self.server.request("POST", "files", self.session, body,
                                    headers={"Content-Type": kind})
        self.assert_error(reply, 400, "SessionRequestValidationFailed", "filename")
        self.assertEqual(self.names(), [])
        self.assertEqual(self.server.value(self.session, "import os; os.listdir('.')"), "[]")

    def test_bodies_that_are_not_uploads(self):
        form, kind = multipart([("comment", None, b"x")])
        unfinished = b"--b\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a\"\r\n\r\nabc"
        for body, content_type in ((b"", kind), (b"hello", "text/plain"), (b"hello", None),
                                   (form, kind), (b"{}", "application/json"),
                                   (b"hello", "multipart/form-data"),
                                   (unfinished, "multipart/form-data; boundary=b"),
                                   (b"nothing at all", "multipart/form-data; boundary=b")):
            with self.subTest(body=body, content_type=content_type):
                reply = self.server.request("POST", "files", self.session, body,
                                            headers={"Content-Type": content_type})
                self.assert_error(reply, 400, "SessionRequestValidationFailed")
                self.assertEqual(reply.headers["x-ms-error-code"], reply.error_code)
        self.assertEqual(self.names(), [])

    def test_uploading_again_replaces(self):
        self.put("a.txt", b"long content")
        self.put("a.txt", b"short")
        self.assertEqual(self.content("a.txt").body, b"short")
        self.assertEqual(self.names(), ["a.txt"])


class OldDialect(Files):
    def check_collection(self, answer, wanted):
        self.assertEqual(answer["$id"], "1")
        self.assertEqual([(f["properties"]["filename"], f["properties"]["size"])
                          for f in answer["value"]], wanted)
        ids = [answer["$id"]]
        for entry in answer["value"]:
            ids += [entry["$id"], entry["properties"]["$id"]]
            self.assertRegex(entry["properties"]["lastModifiedTime"], TIME)
        self.assertEqual(ids, [str(i + 1) for i in range(len(ids))])

    def test_upload_on_each_old_route(self):
        for version in (OLD, "2024-08-02-preview", NEW):
            for route in ("files/upload", "python/uploadFile", "upload"):
                answer = self.put("a.txt", b"0123456789abcdef", route=route, api_version=version)
                self.check_collection(answer, [("a.txt", 16)])

    def test_list_and_show(self):
        self.check_collection(self.call("GET", "files", api_version=OLD).json(), [])
        self.put("b.txt", b"12", route="files/upload", api_version=OLD)
        self.put("a.txt", b"1", route="files/upload", api_version=OLD)
        for version in (OLD, "2024-08-02-preview"):
            answer = self.call("GET", "files", api_version=version).json()
            self.check_collection(answer, [("a.txt", 1), ("b.txt", 2)])
            answer = self.call("GET", "files/b.txt", api_version=version).json()
            self.check_collection(answer, [("b.txt", 2)])
        self.assertIn("name", self.call("GET", "files", api_version=NEW).json()["value"][0])

    def test_several_parts(self):
        body, kind = multipart([("file", "a.txt", b"A"), ("file", "b.txt", b"BB")])
        reply = self.server.request("POST", "files/upload", self.session, body,
                                    headers={"Content-Type": kind}, api_version=OLD)
        self.check_collection(reply.json(), [("a.txt", 1), ("b.txt", 2)])

    def test_download(self):
        self.put("my file (1).bin", ALL_BYTES, route="files/upload")
        for route in ("files/content/my%20file%20(1).bin", "files/content/my%20file%20%281%29.bin",
                      "files/content//mnt/data/my%20file%20(1).bin",
                      "files/content/%2Fmnt%2Fdata%2Fmy%20file%20(1).bin",
                      "files/my%20file%20(1).bin/content"):
            reply = self.call("GET", route, api_version=OLD)
            self.assertEqual((reply.status, reply.body), (200, ALL_BYTES), route)
            self.assertEqual(reply.headers["content-type"], "application/octet-stream")
            self.assertEqual(reply.headers["accept-ranges"], "bytes")
            self.assertIn("GMT", reply.headers["last-modified"])

    def test_delete(self):
        self.put("a.txt", route="files/upload")
        reply = self.call("DELETE", "files/a.txt", api_version=OLD)
        self.assertEqual((reply.status, reply.json()),
                         (200, {"message": "file deleted successfully"}))
        reply = self.call("DELETE", "files/a.txt", api_version=OLD)
        self.assert_error(reply, 404, "SessionFileNotFound")

    def test_names_as_clients_send_them(self):
        for sent, kept in (("/mnt/data/x.txt", "x.txt"), ("mnt/data/x.txt", "x.txt"),
                           ("sub/x.txt", "sub/x.txt"), ("/mnt/data/sub/y.txt", "sub/y.txt"),
                           ("mnt/data/a//b/z.txt", "a/b/z.txt")):
            answer = self.put(sent, sent.encode(), route="files/upload", api_version=OLD)
            self.check_collection(answer, [(kept, len(sent))])
            reply = self.call("GET", f"files/content/{kept}", api_version=OLD)
            self.assertEqual((reply.status, reply.body), (200, sent.encode()), sent)
            self.assertEqual(self.server.value(self.session, f"open('/mnt/data/{kept}').read()"), sent)
        answer = self.call("GET", "files", api_version=OLD).json()
        self.assertEqual([f["properties"]["filename"] for f in answer["value"]],
                         ["a/b/z.txt", "sub/x.txt", "sub/y.txt", "x.txt"])
        # Relative to the query's path; an absolute one is what it is.
        self.assertEqual(self.put("n/x", path="m")["directory"], "m/n")
        self.assertEqual(self.put("/mnt/data/n/x", path="m")["directory"], "n")
        for sent in ("./x", "../../x", "a/../x", "/etc/x", "/x", "sub/", "mnt/data/", "/mnt/data/"):
            reply = self.server.upload(self.session, sent, b"x", route="files/upload", api_version=OLD)
            self.assert_error(reply, 400, "SessionRequestValidationFailed", "filename")

    def test_names_that_code_makes_can_be_uploaded(self):
        for name in "'+[]~!{}:`|<>*?\\&#%= ":
            name = f"a{name}b"
            self.server.value(self.session, f"open({name!r}, 'w').write('code')")
            made = self.content(name)
            self.assertEqual((made.status, made.body), (200, b"code"), name)
            self.put(name, b"upload")
            self.assertEqual(self.server.value(self.session, f"open({name!r}).read()"), "upload", name)

    def test_a_form_under_another_content_type(self):
        """Semantic Kernel sends its uploads as application/json, and others without a type."""
        body, _ = multipart([("file", "a.txt", b"A"), ("file", "b.txt", b"BB")])
        for content_type in ("application/json", "multipart/form-data", "text/plain", None):
            for route in ("files/upload", "files", "upload"):
                reply = self.server.request("POST", route, self.session, body,
                                            headers={"Content-Type": content_type})
                self.assertEqual(reply.status, 200, (content_type, reply))
                self.assertEqual([self.content(n).body for n in ("a.txt", "b.txt")], [b"A", b"BB"])

    def test_in_sub_directories(self):
        self.put("a.txt", b"deep", path="x/y")
        reply = self.call("GET", "files/content/x/y/a.txt", api_version=OLD)
        self.assertEqual((reply.status, reply.body), (200, b"deep"))
        answer = self.call("GET", "files", api_version=OLD, recursive="true").json()
        self.check_collection(answer, [("x/y/a.txt", 4)])


class Content(Files):
    def test_every_byte_value(self):
        for data in (b"", b"\0", ALL_BYTES, b"\r\n--" * 1000, b"\r\n", b"--carrel",
                     secrets.token_bytes(3 * MIB + 1)):
            self.put("f.bin", data)
            self.assertEqual(self.content("f.bin").body, data)
            self.assertEqual(self.server.value(
                self.session, "import hashlib; hashlib.sha256(open('f.bin', 'rb').read()).hexdigest()"),
                hashlib.sha256(data).hexdigest())

    def test_the_boundary_inside_of_the_data(self):
        data = b"a\r\n--bound\r\nb\r\n--boun\r\n--bounded--\r\nc\n--bound--\n"
        boundary = "bound-x"
        body = (f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n'
                .encode() + data + f"\r\n--{boundary}--\r\n".encode())
        reply = self.server.request("POST", "files", self.session, body,
                                    {"Content-Type": f"multipart/form-data; boundary={boundary}"})
        self.assertEqual(reply.status, 200, reply)
        self.assertEqual(self.content("a").body, data)

    def test_what_the_session_writes(self):
        self.server.value(self.session, "open('out.bin', 'wb').write(bytes(range(256)) * 3)")
        self.assertEqual(self.content("out.bin").body, ALL_BYTES)
        self.server.value(self.session, "f = open('sparse', 'wb'); f.truncate(1 << 20)")
        self.assertEqual(self.content("sparse").body, bytes(1 << 20))

    def test_types(self):
        for name, kind in (("a.txt", "text/plain; charset=utf-8"), ("a.PNG", "image/png"),
                           ("a.json", "application/json"), ("a.csv", "text/csv; charset=utf-8"),
                           ("a.html", "text/html; charset=utf-8"), ("a", "application/octet-stream"),
                           ("a.xlsx", "application/vnd.openxmlformats-officedocument."
                                      "spreadsheetml.sheet"),
                           ("a.unknown", "application/octet-stream"), ("a.pdf", "application/pdf")):
            self.assertEqual(self.put(name)["contentType"], kind)
            reply = self.content(name)
            self.assertEqual(reply.headers["content-type"], kind)
            self.assertEqual(reply.headers["x-content-type-options"], "nosniff")

    def test_ranges(self):
        data = ALL_BYTES
        size = len(data)
        self.put("f", data)
        for wanted, first, last in (("0-0", 0, 0), ("0-9", 0, 9), (f"{size - 1}-", size - 1, size - 1),
                                    ("5-", 5, size - 1), ("-1", size - 1, size - 1),
                                    (f"-{size + 5}", 0, size - 1), (f"10-{size * 2}", 10, size - 1),
                                    ("100-199", 100, 199)):
            reply = self.content("f", {"Range": f"bytes={wanted}"})
            self.assertEqual((reply.status, reply.body), (206, data[first:last + 1]), wanted)
            self.assertEqual(reply.headers["content-range"], f"bytes {first}-{last}/{size}")
        for wanted in (f"{size}-", f"{size + 10}-{size + 20}", "-0"):
            reply = self.content("f", {"Range": f"bytes={wanted}"})
            self.assertEqual(reply.status, 416, wanted)
            self.assertEqual(reply.headers["content-range"], f"bytes */{size}")
        for wanted in ("bytes=5-2", "bytes=a-b", "bytes=", "lines=1-2", "bytes=0-1,3-4"):
            reply = self.content("f", {"Range": wanted})
            self.assertEqual((reply.status, reply.body), (200, data), wanted)

    def test_conditions(self):
        self.put("f", b"1")
        tag = self.content("f").headers["etag"]
        reply = self.content("f", {"If-None-Match": tag})
        self.assertEqual((reply.status, reply.body), (304, b""))
        self.assertEqual(self.content("f", {"If-None-Match": '"other"'}).status, 200)
        self.assertEqual(self.content("f", {"Range": "bytes=0-0", "If-Range": tag}).status, 206)
        self.assertEqual(self.content("f", {"Range": "bytes=0-0", "If-Range": '"x"'}).status, 200)
        self.put("f", b"22")
        self.assertNotEqual(self.content("f").headers["etag"], tag)

    def test_head(self):
        self.put("f", ALL_BYTES)
        reply = self.call("HEAD", "files/f/content")
        self.assertEqual((reply.status, reply.headers["content-length"], reply.body),
                         (200, str(len(ALL_BYTES)), b""))

    def test_a_file_that_shrinks_while_it_is_sent(self):
        self.put("big", bytes(32 * MIB))
        connection = self.server.connect()
        connection.request("GET", self.server.target("files/big/content", self.session),
                           headers={"Authorization": f"Bearer {self.server.token}"})
        answer = connection.getresponse()
        answer.read(1000)
        self.server.value(self.session, "open('big', 'wb').close()")
        # What was promised cannot come, and nothing else may come in its place.
        with self.assertRaises((http.client.IncompleteRead, ConnectionError)):
            while answer.read(MIB):
                pass
            raise http.client.IncompleteRead(b"")
        connection.close()
        self.assertEqual(self.content("big").body, b"")


class Names(Files):
    GOOD = ("a", "A-b_c d.txt", "x@$&=.csv", "a;b,c#d%e^f(g).txt", "100%", "%41",
            "\u00fcml\u00e4ut.txt", "\u65e5\u672c\u8a9e.csv", "\u0440\u0443\u0441.txt", "..x", "x..",
            ".hidden", "a.b.c", "content", "upload", " lead", "e\u0301", "n" * 255)
    BAD = ("a\nb", "a\tb", "a\x7fb", "..", ".", "", "n" * 256, "a\u202eb", "a\u0000b",
           ".carrel-upload-x")

    def upload_raw(self, name):
        """As a browser quotes a file name."""
        raw = name.encode().replace(b"\\", b"\\\\").replace(b'"', b'\\"')
        body = (b'--b\r\nContent-Disposition: form-data; name="file"; filename="' + raw
                + b'"\r\n\r\n1\r\n--b--\r\n')
        return self.server.request("POST", "files", self.session, body,
                                   {"Content-Type": "multipart/form-data; boundary=b"})

    def test_good_names(self):
        for name in self.GOOD:
            with self.subTest(name=name):
                reply = self.upload_raw(name)
                self.assertEqual((reply.status, reply.json().get("name")), (200, name))
                self.assertIn(name, self.names())
                self.assertEqual(self.content(name).body, b"1")
                quoted = urllib.parse.quote(name, safe="")
                self.assertEqual(self.call("GET", f"files/content/{quoted}").body, b"1")
                self.assertEqual(self.call("GET", f"files/{quoted}").json()["name"], name)
                self.assertEqual(self.call("DELETE", f"files/{quoted}").status, 204)

    def test_names_are_the_same_inside(self):
        for name in ("\u00fcml\u00e4ut #1 100%.txt", "a;b,c#d%e^f(g).txt"):
            self.upload_raw(name)
        self.assertEqual(self.server.value(self.session, "import os; '|'.join(sorted(os.listdir('.')))"),
                         "a;b,c#d%e^f(g).txt|\u00fcml\u00e4ut #1 100%.txt")

    def test_bad_names(self):
        for name in self.BAD:
            with self.subTest(name=name):
                self.assertEqual(self.upload_raw(name).status, 400)
        self.assertEqual(self.names(), [])

    def test_names_that_are_not_utf_8(self):
        body = (b'--b\r\nContent-Disposition: form-data; name="file"; filename="\xff\xfe"'
                b'\r\n\r\n1\r\n--b--\r\n')
        reply = self.server.request("POST", "files", self.session, body,
                                    {"Content-Type": "multipart/form-data; boundary=b"})
        self.assertEqual(reply.status, 400)
        # What the session makes is listed in a form JSON can carry, and breaks nothing.
        self.server.value(self.session, "open(b'bad\\xff', 'w').close()")
        self.assertEqual(self.names(), ["bad\ufffd"])
        self.assertEqual(self.call("GET", "files/bad%FF/content").status, 200)

    def test_names_of_the_sessions_own_that_uploads_may_not_have(self):
        self.server.value(self.session, "open('a\"b|c\\n<d>', 'w').write('odd')")
        self.assertEqual(self.names(), ['a"b|c\n<d>'])
        self.assertEqual(self.content('a"b|c\n<d>').body, b"odd")
        quoted = urllib.parse.quote('a"b|c\n<d>', safe="")
        self.assertEqual(self.call("DELETE", f"files/{quoted}").status, 204)

    def test_traversal(self):
        self.put("a.txt")
        for path in ("..", "../..", "a/../..", "sub/..", ".", "./x", "/etc", "/", "/mnt", "/mnt/datax",
                     "/mnt/data/..", "/mnt/data/../../etc", "%2e%2e", "/proc/self/root"):
            reply = self.call("GET", "files", path=path)
            self.assertIn(reply.status, (400, 404), path)
            if path != "%2e%2e":
                self.assert_error(reply, 400, "SessionRequestValidationFailed", "path")
            self.assertIn(self.server.upload(self.session, "x", b"1", path).status,
                          (400,) if path != "%2e%2e" else (200,), path)
        for route in ("files/%2e%2e/content", "files/..%2f..%2fetc%2fpasswd/content",
                      "files/content/%2fetc%2fpasswd", "files/content/../../../../etc/passwd",
                      "files/content/..%2f..%2fetc%2fpasswd", "files/content//etc/passwd",
                      "files/%2fmnt%2fdata%2f..%2f..%2fetc%2fpasswd/content", "files/%2e",
                      "files/a.txt%00/content"):
            reply = self.call("GET", route)
            self.assertIn(reply.status, (400, 404), route)
            self.assertNotIn(b"root:", reply.body)

    def test_links_devices_and_pipes_are_not_followed(self):
        self.put("real.txt", b"real")
        self.server.value(self.session, "import os, socket\nos.symlink('/etc/passwd', 'link')\n"
                                   "os.symlink('/etc', 'dir')\nos.symlink('real.txt', 'inside')\n"
                                   "os.mkfifo('fifo')\ns = socket.socket(socket.AF_UNIX)\n"
                                   "s.bind('socket')\nos.symlink('.', 'loop')")
        self.assertEqual(self.names(), ["real.txt"])
        self.assertEqual(self.names(recursive="true"), ["real.txt"])
        for name in ("link", "inside", "fifo", "socket", "dir"):
            reply = self.content(name)
            self.assertIn(reply.status, (400, 404), name)
        self.assertEqual(self.content("passwd", path="dir").status, 404)
        self.assertIn(self.server.upload(self.session, "x", b"1", path="dir").status, (404, 409))
        # An upload over a link replaces the link, not what it leads to.
        self.put("inside", b"new")
        self.assertEqual(self.content("real.txt").body, b"real")
        self.assertEqual(self.content("inside").body, b"new")
        self.assertEqual(self.call("DELETE", "files/link").status, 204)
        self.assertEqual(self.server.value(self.session, "os.path.exists('/etc/passwd')"), True)

    def test_files_that_the_session_closes_to_others(self):
        self.server.value(self.session, "import os\nopen('f', 'w').write('x')\nos.chmod('f', 0)\n"
                                   "os.mkdir('d')\nos.chmod('d', 0)")
        for reply in (self.content("f"), self.call("GET", "files", path="d")):
            self.assertIn(reply.status, (200, 403), reply)
        self.assertEqual(self.server.value(self.session, "1"), 1)


class Large(ServerCase):
    config = {"pools": [{"name": "default", "ready_sessions": 2, "file_space": "300m",
                         "memory": "768m"}]}

    def parts_of(self, seed, size):
        """size bytes that repeat nowhere near, in pieces."""
        block = hashlib.shake_256(seed).digest(MIB)
        for i in range(size // MIB):
            yield (i.to_bytes(8, "big") + block)[:MIB]
        if size % MIB:
            yield block[:size % MIB]

    def upload(self, name, size, seed=b"carrel"):
        head = ('--b\r\nContent-Disposition: form-data; name="file"; filename="' + name
                + '"\r\n\r\n').encode()
        tail = b"\r\n--b--\r\n"

        def body():
            yield head
            yield from self.parts_of(seed, size)
            yield tail
        connection = self.server.connect(120)
        try:
            connection.request("POST", self.server.target("files", self.session), body(), {
                "Authorization": f"Bearer {self.server.token}", "Content-Length":
                str(len(head) + size + len(tail)),
                "Content-Type": "multipart/form-data; boundary=b"})
        except (BrokenPipeError, ConnectionResetError):
            pass  # refused before all was sent; the answer is there to read
        answer = connection.getresponse()
        body = json.loads(answer.read())
        connection.close()
        return answer.status, body

    def test_100_mb_there_and_back(self):
        size = 100 * 1000 * 1000
        status, answer = self.upload("big.bin", size)
        self.assertEqual((status, answer.get("sizeInBytes")), (200, size), answer)
        wanted = hashlib.sha256()
        for part in self.parts_of(b"carrel", size):
            wanted.update(part)
        connection = self.server.connect(120)
        connection.request("GET", self.server.target("files/big.bin/content", self.session),
                           headers={"Authorization": f"Bearer {self.server.token}"})
        answer = connection.getresponse()
        got, received = hashlib.sha256(), 0
        while piece := answer.read(MIB):
            got.update(piece)
            received += len(piece)
        connection.close()
        self.assertEqual((received, got.hexdigest()), (size, wanted.hexdigest()))
        self.assertEqual(self.server.value(self.session, "import hashlib\nwith open('big.bin', 'rb') as f:"
                                           "\n    h = hashlib.file_digest(f, 'sha256')\nh.hexdigest()"),
                         wanted.hexdigest())

    def test_up_to_128_mib_and_no_further(self):
        status, answer = self.upload("fits.bin", 128 * MIB)
        self.assertEqual((status, answer.get("sizeInBytes")), (200, 128 * MIB), answer)
        self.assertEqual(self.server.request("DELETE", "files/fits.bin", self.session).status, 204)
        for size in (128 * MIB + 1, 140 * MIB):
            status, answer = self.upload("over.bin", size)
            self.assertEqual((status, answer["error"]["code"]), (413, "SessionRequestTooLarge"))
        self.assertEqual(self.server.request("GET", "files", self.session).json(), {"value": []})
        self.assertEqual(self.server.value(self.session, "import os; os.listdir('.')"), "[]")

    def test_no_room_left(self):
        status, answer = self.upload("a.bin", 127 * MIB)
        self.assertEqual(status, 200, answer)
        status, answer = self.upload("b.bin", 127 * MIB)
        self.assertEqual(status, 200, answer)
        status, answer = self.upload("c.bin", 127 * MIB)
        self.assertEqual((status, answer["error"]["code"]), (507, "SessionStorageFull"))
        names = [f["name"] for f in self.server.request("GET", "files", self.session).json()["value"]]
        self.assertEqual(names, ["a.bin", "b.bin"])
        self.assertEqual(self.server.value(self.session, "import os; len(os.listdir('.'))"), 2)

    def test_ten_thousand_files_and_more_are_listed_in_pages(self):
        self.server.value(self.session, "for i in range(10_050): open(f'f{i:05d}', 'w').close()")
        answer = self.server.request("GET", "files", self.session).json()
        names = [f["name"] for f in answer["value"]]
        pages = 1
        while answer.get("nextLink"):
            connection = self.server.connect()
            connection.request("GET", answer["nextLink"],
                               headers={"Authorization": f"Bearer {self.server.token}"})
            answer = json.loads(connection.getresponse().read())
            connection.close()
            names += [f["name"] for f in answer["value"]]
            pages += 1
        self.assertEqual(pages, 2)
        self.assertEqual(sorted(names), [f"f{i:05d}" for i in range(10_050)])


class Meanwhile(Files):
    """What happens to transfers while something else does."""

    def begin_upload(self, size=8 * MIB, sent=MIB, name="half.bin"):
        """A connection that has sent a part of an upload."""
        head = (f'--b\r\nContent-Disposition: form-data; name="file"; filename="{name}"\r\n\r\n'
                .encode())
        tail = b"\r\n--b--\r\n"
        client = socket.create_connection(("127.0.0.1", self.server.port), timeout=30)
        client.sendall((f"POST {self.server.target('files', self.session)} HTTP/1.1\r\nHost: x\r\n"
                        f"Authorization: Bearer {self.server.token}\r\n"
                        "Content-Type: multipart/form-data; boundary=b\r\n"
                        f"Content-Length: {len(head) + size + len(tail)}\r\n\r\n").encode()
                       + head + bytes(sent))
        return client, bytes(size - sent) + tail

    def inside(self):
        """What the session itself sees, unfinished uploads too."""
        return self.server.value(self.session, "import os; '|'.join(sorted(os.listdir('.')))")

    def status_line(self, client):
        with client.makefile("rb") as answer:
            return answer.readline()

    def test_listing_an_unknown_identifier_makes_its_session(self):
        self.assert_error(self.call("GET", "session"), 400, "SessionWithIdentifierNotFound")
        self.assertEqual(self.call("GET", "files").json(), {"value": []})
        self.assertEqual(self.call("GET", "session").json()["identifier"], self.session)

    def test_upload_makes_its_session(self):
        self.put("a.txt", b"first")
        self.assertEqual(self.server.value(self.session, "open('a.txt').read()"), "first")

    def test_files_while_the_session_executes(self):
        def run():
            return self.server.value(self.session, "open('on', 'w').close()\nimport os, time\n"
                                                   "while not os.path.exists('go'): "
                                                   "time.sleep(0.005)\nopen('go').read()")

        def transfer():
            self.wait_for_file("on")
            self.put("other", ALL_BYTES)
            self.assertEqual(self.content("other").body, ALL_BYTES)
            self.assertEqual(self.names(), ["on", "other"])
            self.assertEqual(self.call("DELETE", "files/other").status, 204)
            self.put("go", b"went")
        self.assertEqual(run_at_once([run, transfer])[0], "went")

    def test_a_file_appears_only_when_it_is_whole(self):
        client, rest = self.begin_upload()
        self.wait_until(lambda: self.inside() != "", "nothing was written")
        self.assertEqual(self.names(), [])
        self.assert_error(self.call("GET", "files/half.bin"), 404, "SessionFileNotFound")
        client.sendall(rest)
        self.assertIn(b" 200 ", self.status_line(client))
        client.close()
        self.assertEqual(self.inside(), "half.bin")

    def test_a_client_that_leaves_in_the_middle_leaves_no_file(self):
        client, _ = self.begin_upload()
        self.wait_until(lambda: self.inside() != "", "nothing was written")
        client.close()
        self.wait_until(lambda: self.inside() == "", "something stayed")
        self.assertEqual(self.names(), [])

    def test_the_session_is_deleted_during_an_upload(self):
        client, rest = self.begin_upload()
        self.wait_until(lambda: self.inside() != "", "nothing was written")
        self.assertEqual(self.call("DELETE", "session").status, 204)
        # The next session of that identifier must get nothing of it.
        self.assertEqual(self.names(), [])
        try:
            client.sendall(rest)
            line = self.status_line(client)
        except (BrokenPipeError, ConnectionResetError):
            line = b""
        self.assertTrue(line == b"" or b" 410 " in line, line)
        client.close()
        self.assertEqual(self.names(), [])
        self.assertEqual(self.inside(), "")

    def test_the_session_is_deleted_during_a_download(self):
        data = os.urandom(MIB) * 24
        self.put("big", data)
        connection = self.server.connect()
        connection.request("GET", self.server.target("files/big/content", self.session),
                           headers={"Authorization": f"Bearer {self.server.token}"})
        answer = connection.getresponse()
        got = answer.read(1000)
        self.assertEqual(self.call("DELETE", "session").status, 204)
        # Either all of it or a broken connection, but never other bytes.
        try:
            while piece := answer.read(MIB):
                got += piece
        except (http.client.IncompleteRead, ConnectionError):
            pass
        connection.close()
        self.assertEqual(got, data[:len(got)])
        self.assertEqual(self.names(), [])

    def test_the_session_crashes_during_an_upload(self):
        client, rest = self.begin_upload()
        self.wait_until(lambda: self.inside() != "", "nothing was written")
        self.server.execute(self.session, "os._exit(1)")
        try:
            client.sendall(rest)
            line = self.status_line(client)
        except (BrokenPipeError, ConnectionResetError):
            line = b""
        self.assertNotIn(b" 200 ", line)
        client.close()
        self.assertEqual(self.names(), [])

    def test_the_session_removes_what_is_being_uploaded(self):
        client, rest = self.begin_upload()
        self.wait_until(lambda: self.inside() != "", "nothing was written")
        self.server.value(self.session, "[os.remove(f) for f in os.listdir('.')]; 1")
        client.sendall(rest)
        self.assertIn(b" 409 ", self.status_line(client))
        client.close()

    def test_many_uploads_of_one_name_at_once(self):
        sizes = [100_000 + i for i in range(8)]
        run_at_once([lambda n=n: self.put("same", bytes([n % 256]) * n) for n in sizes])
        data = self.content("same").body
        self.assertIn(len(data), sizes)
        self.assertEqual(len(set(data)), 1)
        self.assertEqual(self.inside(), "same")


if __name__ == "__main__":
    unittest.main()
