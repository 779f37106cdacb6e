// Arguments: the name of this client, the addresses of retrieval and memory.
import { Client } from "@modelcontextprotocol/sdk/client/index.js";
import { StreamableHTTPClientTransport } from "@modelcontextprotocol/sdk/client/streamableHttp.js";
import { day } from "./day.mjs";

const [name, retrieval, memory] = process.argv.slice(2);
const clients = {};
for (const [service, url] of Object.entries({ retrieval, memory })) {
  const transport = new StreamableHTTPClientTransport(new URL(url), {
    requestInit: { headers: { "Diptych-User": name } },
  });
  clients[service] = new Client({ name, version: "1.0.0" });
  await clients[service].connect(transport);
}
await day(name, (service, tool, given) => clients[service].callTool({ name: tool, arguments: given }));
for (const client of Object.values(clients)) await client.close();
