// An OpenAI-compatible server (aimock) with scripted answers, behind a key.
//
//   LLM_KEY=secret node llm_server.mjs [PORT]      prints `ready BASE_URL`, such as `http://127.0.0.1:4010/v1`
//
// It answers `hello` with `hello from the model`, and anything else with a call of the tool `echo`.
// What reaches it is one line `request {"method","path","headers","body"}` each. With LLM_KEY set it
// answers 401 to what lacks `Authorization: Bearer KEY`.
import { LLMock } from "@copilotkit/aimock";
import { guard } from "./guard.mjs";

guard(process.env.LLM_KEY);
const server = new LLMock({ host: "127.0.0.1", port: Number(process.argv[2] ?? 0) });
server.onMessage("hello", { content: "hello from the model" });
server.onMessage(/.*/, { toolCalls: [{ name: "echo", arguments: '{"message":"hi"}' }] });
console.log(`ready ${await server.start()}/v1`);
