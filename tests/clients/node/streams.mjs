// Streams: text, tool calls, and the library's own accumulation of both.
import { client, messages, model, report } from "./rig.mjs";

let text = "";
let usage = null;
const stream = await client.chat.completions.create({
  model,
  messages,
  stream: true,
  stream_options: { include_usage: true },
});
for await (const chunk of stream) {
  text += chunk.choices[0]?.delta?.content ?? "";
  usage = chunk.usage ?? usage;
}

const tools = [{ type: "function", function: { name: "weather", parameters: { type: "object" } } }];
const runner = client.chat.completions.stream({ model, messages, tools });
const final = await runner.finalChatCompletion();
report({
  text,
  usage: usage.total_tokens,
  finish: final.choices[0].finish_reason,
  calls: final.choices[0].message.tool_calls.map((call) => [call.function.name, call.function.arguments]),
});
