// Uses the unmodified AzureDynamicSessionTool as its own documentation does, and writes what it saw
// to a file as JSON, since the tool itself prints to stdout.
//
//     node session.mjs ENDPOINT SESSION TOKEN REPORT
import { writeFile, readFile, readdir } from "node:fs/promises";
import { AzureDynamicSessionTool } from "@llamaindex/azure";

const [poolManagementEndpoint, sessionId, token, report] = process.argv.slice(2);
const tool = new AzureDynamicSessionTool({
  poolManagementEndpoint,
  sessionId,
  azureADTokenProvider: async () => token,
});

const seen = {};
seen.hello = await tool.call({ code: "print('Hello, World!')\n1+1" });
seen.nothing = await tool.call({ code: "x = 20" });
seen.state = await tool.call({ code: "x + 22" });
seen.none = await tool.call({ code: "None" });
seen.failure = await tool.call({ code: "{}['sales_amount']" });
seen.nan = await tool.call({ code: "float('nan')" });

const bytes = Uint8Array.from({ length: 768 }, (_, i) => i % 256);
seen.uploaded = await tool.uploadFile({ data: new Blob([bytes]), remoteFilename: "test data.bin" });
seen.text = await tool.uploadFile({ data: new Blob(["hello world!"]), remoteFilename: "test.txt" });
seen.files = await tool.listFiles();
const stream = await tool.downloadFile({ remoteFilename: "test data.bin" });
const chunks = [];
for await (const chunk of stream) {
  chunks.push(chunk);
}
seen.downloaded = Buffer.concat(chunks).equals(Buffer.from(bytes));

const png = await tool.call({
  code: "import matplotlib.pyplot as plt\nplt.plot([1, 2, 3])\nplt.show()",
});
seen.image = { stdout: png.stdout, stderr: png.stderr, result: png.result };
// The tool saves the picture in its output directory.
const saved = await readdir("tool-output");
seen.imageFiles = saved.length;
seen.imageMagic = (await readFile(`tool-output/${saved[0]}`)).subarray(1, 4).toString();

await writeFile(report, JSON.stringify(seen));
