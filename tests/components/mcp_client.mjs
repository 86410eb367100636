// Calls one MCP tool with the official TypeScript SDK.
//
//   TOKEN=… node mcp_client.mjs URL TOOL ['{"argument": 1}']
//
// prints {"protocol","tools":[names],"result":{…}}; or {"error":{"code","message"}}, with exit code 1.
import { Client } from "@modelcontextprotocol/sdk/client/index.js";
import { StreamableHTTPClientTransport } from "@modelcontextprotocol/sdk/client/streamableHttp.js";

const [url, name, text = "{}"] = process.argv.slice(2);
const headers = process.env.TOKEN ? { authorization: `Bearer ${process.env.TOKEN}` } : {};
const transport = new StreamableHTTPClientTransport(new URL(url), { requestInit: { headers } });
const client = new Client({ name: "remit-tests", version: "1" });
try {
  await client.connect(transport);
  const tools = (await client.listTools()).tools.map((tool) => tool.name);
  const result = await client.callTool({ name, arguments: JSON.parse(text) });
  console.log(JSON.stringify({ protocol: transport.protocolVersion, tools, result }));
} catch ({ code = null, message }) {
  console.log(JSON.stringify({ error: { code, message } }));
  process.exitCode = 1;
} finally {
  await transport.terminateSession().catch(() => {});
  await client.close();
}
